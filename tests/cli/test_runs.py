"""`tfzoo runs`, from what lies in the runs' folders."""

from __future__ import annotations

import json

import pytest
from read_tables import cells

from tfzoo.cli import main


def test_all_runs_in_one_table(runs, capsys):
    assert main(["runs"]) == 0
    head, *rows = cells(capsys.readouterr().out)
    assert head == ["experiment", "run", "state", "step", "train/loss", "best", "last"]
    assert rows[0] == [
        "gen",
        "s-depth=2",
        "finished",
        "10/20",
        "1.5",
        "val/loss 1.5 at 10",
        "val/loss 1.5",
    ]
    assert rows[2][-2:] == ["val/accuracy 0.9 at 1", "val/accuracy 0.9"]


@pytest.mark.parametrize("said", [["--sweep", "s"], ["runs/gen"], ["runs/gen/sweeps/s"]])
def test_a_sweep_is_told_by_what_varies(runs, capsys, said):
    (runs / "gen" / "sweeps" / "s").mkdir(parents=True)
    assert main(["runs", *said, "--sort", "val/loss"]) == 0
    told = capsys.readouterr().out
    head, *rows = cells(told)
    assert head[0] == "depth"
    assert [row[0] for row in rows] == ["4", "2"]
    assert "lower is better: val/loss" in told


def test_the_same_as_json(runs, capsys):
    assert main(["runs", "runs/gen", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["sweep"]["point"]["model.backbone.depth"] for one in told] == [2, 4]
    assert told[0]["best"]["val/loss"] == {"value": 1.5, "step": 10}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["runs", "nowhere"], "no runs in"),
        (["runs", "--sort", "val/los"], "did you mean 'val/loss'?"),
        (["runs", "--sweep", "t"], "there is no sweep 't'"),
    ],
)
def test_mistakes(runs, capsys, said, told):
    assert main(said) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_an_empty_folder(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no runs in")
