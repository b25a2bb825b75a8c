"""Bars count what takes long, and say nothing where nobody watches or nothing takes long."""

import time

import datasets

from tfzoo.data.bars import bar


def test_a_bar_counts_what_takes_long(capsys):
    datasets.enable_progress_bars()
    found = []
    for number in bar(iter(range(4)), "Reading", 4):
        found.append(number)
        time.sleep(0.4)
    assert found == [0, 1, 2, 3]
    told = capsys.readouterr().err
    assert "Reading" in told
    assert "/4" in told


def test_what_is_done_at_once_has_none(capsys):
    assert list(bar(range(1000), "Reading")) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_nobody_watches(capsys):
    datasets.disable_progress_bars()
    try:
        for _ in bar(range(3), "Reading"):
            time.sleep(0.4)
    finally:
        datasets.enable_progress_bars()
    assert capsys.readouterr().err == ""
