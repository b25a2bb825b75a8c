"""`tfzoo jobs` and `tfzoo runs`, from what lies in the runs' folders."""

from __future__ import annotations

import json

import pytest

from tfzoo.cli import main
from tfzoo.tracking.runs import Run
from tfzoo.tracking.submitted import Submitted, now


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A sweep of two points and a run beside it; no SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfzoo.slurm.queue.jobs", lambda *_: {})
    for index, (depth, loss) in enumerate([(2, 1.5), (4, 0.5)]):
        run = Run(tmp_path / "runs" / "gen" / f"s-depth={depth}")
        run.folder.mkdir(parents=True)
        run.metrics_file.write_text(f"step,train/loss,val/loss\n9,{loss},\n9,,{loss}\n")
        run.config_file.write_text("trainer:\n  max_steps: 20\n")
        sweep = {"id": "s", "index": index, "point": {"model.backbone.depth": depth}}
        Submitted(f"7_{index}", now(), "/", [], {}, "/s", [], "", sweep).write(run)
        ended = {"time": now(), "how": "finished", "step": 20}
        job = {"id": f"7_{index}", "restarts": 0, "nodes": "sn1"}
        (run.folder / "provenance.json").write_text(
            json.dumps([{"started": now(), "job": job, "ended": ended}])
        )
    plain = Run(tmp_path / "runs" / "other" / "b")
    plain.folder.mkdir(parents=True)
    plain.metrics_file.write_text("step,train/loss,val/accuracy\n0,,0.9\n")
    return tmp_path / "runs"


def cells(text: str) -> list[list[str]]:
    """The rows of a table of rich."""
    lines = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines
    ]


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
    assert main(["jobs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["job"]: one["best"] for one in told} == {"7_0": 1.5, "7_1": 0.5}


def test_jobs_with_the_figures_of_their_runs(runs, capsys):
    assert main(["jobs"]) == 0
    _, *rows = cells(capsys.readouterr().out)
    assert sorted(row[0] for row in rows) == ["7_0", "7_1"]
    row = next(row for row in rows if row[0] == "7_1")
    assert row[1:] == [
        "finished",
        "0:00:00",
        "sn1",
        "runs/gen/s-depth=4",
        "10/20",
        "0.5",
        "val/loss 0.5",
    ]


def test_old_jobs_are_there_when_asked_for(runs, capsys):
    for file in runs.glob("gen/*/*.json"):
        file.write_text(file.read_text().replace("20", "19", 1).replace(now()[:10], "2020-01-01"))
    assert main(["jobs"]) == 0
    assert "no jobs in runs of the last day; --all shows 2 older" in capsys.readouterr().out
    assert main(["jobs", "--all"]) == 0
    assert "7_1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["runs", "nowhere"], "no runs in"),
        (["runs", "--sort", "val/los"], "did you mean 'val/loss'?"),
        (["runs", "--sweep", "t"], "there is no sweep 't'"),
        (["jobs", "--runs", "nowhere"], "no runs in"),
    ],
)
def test_mistakes(runs, capsys, said, told):
    assert main(said) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_an_empty_folder(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert main(["jobs", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no runs in")
