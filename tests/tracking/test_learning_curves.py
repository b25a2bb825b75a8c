"""Learning curves are those of metrics.csv, the best point and baselines marked."""

import math

import pytest
from drawn import draws_without_complaint, words

from tfzoo.tracking.learning_curves import (
    learning_curves,
    read_baselines,
    smooth,
    write_baselines,
)
from tfzoo.tracking.runs import Run

BEST = ("val/accuracy", "max")
ROWS = """step,learning_rate,train/loss,val/loss,val/accuracy
9,0.1,,,
9,,2.5,,
19,,1.5,,
19,,,1.75,0.5
39,,,1.25,0.75
59,,,nan,0.7
59,,0.5"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text(ROWS)
    return Run(tmp_path)


def test_losses_share_a_panel_and_the_best_is_marked(run):
    write_baselines(run, {"val/accuracy": {"RBF SVM": 0.9, "多数类": 0.1}, "val/other": {"x": 1.0}})
    picture = learning_curves(run, BEST)
    assert picture.name == "learning-curves"
    found = words(picture)
    assert {"train/loss", "val/loss", "val/accuracy", "RBF SVM 0.9", "多数类 0.1"} <= set(found)
    assert "best 0.75, step 40" in found
    assert not any("other" in text for text in found)
    loss, accuracy = picture.draw().axes
    assert [len(line.get_xdata()) for line in loss.lines] == [2, 3]
    flat = [line.get_ydata()[0] for line in accuracy.lines if len(set(line.get_ydata())) == 1]
    assert {0.9, 0.1} <= set(flat)
    draws_without_complaint(picture)


def test_the_lowest_loss_is_the_best(run):
    found = words(learning_curves(run, ("val/loss", "min")))
    assert "best 1.25, step 40" in found  # and what is no number is not


def test_without_curves_there_is_no_picture(tmp_path):
    assert learning_curves(Run(tmp_path), BEST) is None
    (tmp_path / "metrics.csv").write_text("step,learning_rate\n9,0.1\n")
    assert learning_curves(Run(tmp_path), BEST) is None
    (tmp_path / "metrics.csv").write_text("")
    assert learning_curves(Run(tmp_path), BEST) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"val/accuracy": 3}', '{"val/accuracy": {"x": "y"}}']
)
def test_baselines_that_are_none_are_left_out(run, text):
    (run.folder / "baselines.json").write_text(text)
    assert not any(read_baselines(run).values())
    assert learning_curves(run, BEST) is not None


def test_smoothing_begins_where_the_curve_does():
    assert smooth([3.0])[0] == pytest.approx(3.0)
    assert smooth([1.0] * 50)[-1] == pytest.approx(1.0)
    assert math.isclose(smooth([0.0, 1.0])[1], 0.1 / 0.19)
