"""`tfzoo jobs`, from what lies in the runs' folders."""

from __future__ import annotations

import json

from read_tables import cells

from tfzoo.cli import main
from tfzoo.cli.jobs import _used
from tfzoo.tracking.submitted import now


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


def test_a_running_job_has_taken_the_time_since_it_began():
    begun = [{"started": "2020-01-01T00:00:00+00:00"}]
    assert "days" in _used(begun, going=True)
    assert _used(begun) == ""  # killed, nobody knows when


def test_old_jobs_are_there_when_asked_for(runs, capsys):
    for file in runs.glob("gen/*/*.json"):
        file.write_text(file.read_text().replace("20", "19", 1).replace(now()[:10], "2020-01-01"))
    assert main(["jobs"]) == 0
    assert "no jobs in runs of the last day; --all shows 2 older" in capsys.readouterr().out
    assert main(["jobs", "--all"]) == 0
    assert "7_1" in capsys.readouterr().out


def test_the_same_as_json(runs, capsys):
    assert main(["jobs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["job"]: one["best"] for one in told} == {"7_0": 1.5, "7_1": 0.5}


def test_no_folder_and_no_jobs(tmp_path, capsys):
    assert main(["jobs", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no jobs in")
    assert main(["jobs", "--runs", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "no runs in" in error
    assert error.count("\n") == 1
