"""Curves of metrics.csv, whole or cut short, and thinned for a picture."""

from __future__ import annotations

import math

import pytest

from tfzoo.tracking.readings import Figures, lower_is_better, read_curves, read_rows, thinned


def test_curves_are_of_every_metric_and_of_finite_values(tmp_path):
    file = tmp_path / "metrics.csv"
    assert read_curves(file) == {}
    file.write_text("step,train/loss,val/loss\n0,3.0,\n1,nan,\n1,,2.0\n2,inf,1.0\n3,0.")
    assert read_curves(file) == {"train/loss": [(1, 3.0)], "val/loss": [(2, 2.0), (3, 1.0)]}
    file.write_text("no,steps\n1,2\n")
    assert read_curves(file) == {}


def test_a_line_that_is_drawn_breaks_off_where_there_is_no_number(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss,val/loss\n0,3.0,\n1,nan,\n1,,2.0\n")
    (step, value), (_, broken) = read_curves(file, {"train/loss"}, gaps=True).pop("train/loss")
    assert (step, value) == (1, 3.0)
    assert math.isnan(broken)


def test_damaged_cells_and_rows_are_left_out(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(
        "train/loss,step,val/loss\n2.5,,\n2.25\n1.\0,19,\n,19,0.5\n3.0,inf,\n,39,0.75\n,-1,9\nx"
    )
    assert read_curves(file) == {"val/loss": [(20, 0.5), (40, 0.75)]}
    assert list(read_rows(file)) == [(19, {}), (19, {"val/loss": 0.5}), (39, {"val/loss": 0.75})]


def test_the_best_is_found_wherever_its_column_stands(tmp_path):
    file = tmp_path / "metrics.csv"
    for head, rows in (
        ("step,val/loss", "0,\n1,2.0\n"),
        ("step,val/loss,epoch", "0,,0\n1,2.0,0\n"),
        ("step,epoch,val/f1,val/loss", "0,0,,\n1,0,,2.0\n"),
        ("step,val/f1,epoch,val/loss", "0,,0,\n1,,0,2.0\n"),
    ):
        file.write_text(f"{head}\n{rows}")
        assert Figures.read(file).best == {"val/loss": (2.0, 2)}, head


@pytest.mark.parametrize(
    "metric", ["val/loss", "val/word_perplexity", "val/WER", "val/rmse", "grad_norm"]
)
def test_of_these_less_is_better(metric):
    assert lower_is_better(metric)
    assert not lower_is_better(metric, {metric: "max"})


@pytest.mark.parametrize("metric", ["val/accuracy", "val/bleu", "val/normalized_gain", "val/power"])
def test_of_these_more_is_better(metric):
    assert not lower_is_better(metric)


def test_a_thinned_curve_keeps_its_means_and_its_end():
    curve = [(step, float(step)) for step in range(1, 1001)]
    thin = thinned(curve, 10)
    assert len(thin) == 10
    assert thin[0] == (100, 50.5)
    assert thin[-1] == (1000, 950.5)
    assert thinned(curve, 1000) == curve
