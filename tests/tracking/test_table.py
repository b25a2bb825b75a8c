"""Runs as rows: their figures, their states, and how fast a thousand are read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tfzoo.cli import main
from tfzoo.tracking.metrics import MetricsFile
from tfzoo.tracking.readings import Figures
from tfzoo.tracking.runs import Run
from tfzoo.tracking.submitted import Submitted
from tfzoo.tracking.table import Row, ranked, scan


@dataclass
class Job:
    state: str
    comment: str = ""
    reason: str = ""
    used: str = ""
    nodes: str = ""

    @property
    def waits(self) -> bool:
        return self.state == "PENDING"

    @property
    def is_there(self) -> bool:
        return self.state in ("PENDING", "RUNNING")

    def told(self) -> str:
        return self.state.lower()


def submitted(run: Run, job: str | None = "12", **changed) -> Submitted:
    run.folder.mkdir(parents=True, exist_ok=True)
    said = {
        "job": job,
        "submitted": "2026-11-24T20:00:00+00:00",
        "directory": "/",
        "options": [f"--output={run.folder}/slurm-%j.out"],
        "resources": {},
        "script": "/s",
        "arguments": [],
        "comment": f"tfzoo:exp/{run.id}",
    }
    found = Submitted(**said | changed)
    found.write(run)
    return found


def lived(run: Run, ended: dict | None, started: str = "2026-11-24T20:05:00+00:00", **more) -> None:
    file = run.folder / "provenance.json"
    before = json.loads(file.read_text()) if file.exists() else []
    entry = {"started": started, "job": {"id": "12"}, **more} | ({"ended": ended} if ended else {})
    run.folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([*before, entry]))


def state(run: Run, **queue: str) -> str:
    return Row(run, {"12": Job(**queue)} if queue else {}).state.told()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "exp" / "a")


def test_a_job_that_waits_is_queued_and_one_that_has_no_process_yet_is_starting(run):
    submitted(run)
    assert state(run, state="PENDING", reason="Resources") == "queued (Resources)"
    assert state(run, state="RUNNING") == "starting"


def test_a_process_that_trains_there_is_running_and_one_that_was_killed_is_told(run):
    submitted(run)
    script = f"""
import os, sys
from pathlib import Path
from tfzoo.tracking.lock import Lock
from tfzoo.tracking.runs import Run
Lock(Run(Path({str(run.folder)!r}))).take()
print("taken", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        assert Row(run).state.word == "running"
        process.kill()
    assert state(run) == "killed"
    assert state(run, state="PENDING") == "queued"  # and will be started again


def test_a_training_that_ended_has_its_own_word_for_it(run):
    submitted(run)
    for how in ("finished", "stopped", "interrupted"):
        lived(run, {"how": how, "step": 3})
        assert state(run) == how
        assert state(run, state="COMPLETED") == how
    lived(run, {"how": "finished", "step": 3})
    assert state(run, state="RUNNING") == "finished"
    lived(run, {"how": "stopped", "step": 3})
    assert state(run, state="RUNNING") == "starting"  # it may be requeued
    # Asked to make room, it waits for its next life.
    assert state(run, state="PENDING") == "queued"


def test_what_failed_tells_why(run):
    one = submitted(run)
    assert one.output == run.folder / "slurm-12.out"
    one.output.write_text(
        "tfzoo: error: an old one\nmore\ntfzoo: error: no space left\nsrun: error: x\n"
    )
    assert state(run) == "failed (no space left)"
    lived(run, {"how": "failed", "step": 3})
    assert state(run) == "failed (no space left)"


def test_what_never_began_is_as_slurm_says(run):
    submitted(run)
    assert state(run) == "unknown (SLURM knows no job 12)"
    assert state(run, state="CANCELLED") == "failed (cancelled)"
    submitted(run, None)
    assert state(run, state="RUNNING") == "unknown"


def test_a_new_submission_counts_before_what_was_trained_then(run):
    lived(run, {"how": "failed", "step": 3}, "2026-11-24T19:00:00+00:00")
    submitted(run)
    assert state(run, state="PENDING") == "queued"
    assert state(run, state="FAILED") == "failed (failed)"


def test_a_strangers_job_of_the_same_number_is_not_ours(run):
    submitted(run)
    lived(run, {"how": "stopped", "step": 3})
    assert state(run, state="RUNNING", comment="tfzoo:exp/b") == "stopped"
    assert state(run, state="RUNNING", comment="tfzoo:exp/a") == "starting"


def test_the_output_of_a_task_of_an_array(run):
    one = submitted(run, "12_3", options=["--output=/a%%b/slurm-%a.out"])
    assert one.output == Path("/a%b/slurm-3.out")


def test_figures_are_the_last_and_the_best(run):
    file = MetricsFile(run.metrics_file)
    file.log_metrics({"train/loss": 3.0, "lr": 0.1}, 9)
    for step, (loss, accuracy) in enumerate([(2.0, 0.3), (1.0, 0.5), (1.5, 0.4)], 10):
        file.log_metrics({"val/loss": loss, "val/accuracy": accuracy}, step)
    file.log_metrics({"train/loss": 2.5}, 13)
    found = Figures.read(run.metrics_file)
    assert found.step == 14
    assert found.last == {"train/loss": 2.5, "lr": 0.1, "val/loss": 1.5, "val/accuracy": 0.4}
    assert found.best == {"val/loss": (1.0, 12), "val/accuracy": (0.5, 12)}
    # A last line that was cut short, and a best that its run says to be the lowest.
    with run.metrics_file.open("a") as end:
        end.write("14,")
    assert Figures.read(run.metrics_file, {"val/accuracy": "min"}).best["val/accuracy"] == (0.3, 11)


def test_no_file_and_no_number_are_no_mistake(run):
    assert Figures.read(run.metrics_file) == Figures()
    run.folder.mkdir(parents=True)
    run.metrics_file.write_text("step,val/loss\n0,nan\n1,0.5\n2,nan\n")
    assert Figures.read(run.metrics_file).best == {"val/loss": (0.5, 2)}
    run.metrics_file.write_text("")
    assert Figures.read(run.metrics_file) == Figures()


def test_runs_are_judged_by_what_they_say_or_by_the_usual(run):
    run.folder.mkdir(parents=True)
    run.metrics_file.write_text("step,val/loss,val/accuracy,val/mine\n0,1,2,3\n")
    assert Row(run).main == "val/accuracy"
    lived(run, None, best={"metric": "val/mine", "mode": "min"})
    assert Row(run).main == "val/mine"


def test_ranks_put_the_best_first_and_the_unmeasured_last(tmp_path):
    runs = [Run(tmp_path / "exp" / name) for name in "abc"]
    for run, loss in zip(runs, ("2", "", "1"), strict=True):
        run.folder.mkdir(parents=True)
        run.metrics_file.write_text(f"step,val/loss,val/accuracy\n0,{loss},{loss}\n")
    rows = [Row(run) for run in runs]
    assert [row.run.id for row in ranked(rows, "val/loss")] == ["c", "a", "b"]
    assert [row.run.id for row in ranked(rows, "val/accuracy")] == ["a", "c", "b"]


def test_scan_finds_runs_from_every_folder_above_them(tmp_path):
    one, two = Run(tmp_path / "exp" / "s-a=1"), Run(tmp_path / "other" / "b")
    submitted(one, "3_0", sweep={"id": "s", "index": 0, "point": {"a": 1}})
    submitted(two)
    (tmp_path / "exp" / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "exp" / "empty").mkdir()
    assert scan(tmp_path) == [one, two]
    assert scan(tmp_path / "exp") == [one]
    assert scan(one.folder) == [one]
    assert scan(tmp_path / "exp" / "sweeps" / "s") == [one]
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "nowhere")


def test_a_thousand_runs_are_read_within_three_seconds(tmp_path):
    rows = [f"{step},{2.5 - step / 1000},0.001,,,,\n" for step in range(0, 2000, 10)]
    rows += [f"{step},,,1.5,0.5,3.0,2.0\n" for step in range(0, 2000, 100)]
    text = "step,train/loss,lr,val/loss,val/accuracy,val/perplexity,val/bits\n" + "".join(rows)
    entry = json.dumps([{"started": "2026-11-24T20:00:00", "ended": {"how": "finished"}}])
    for number in range(1000):
        run = Run(tmp_path / "exp" / str(number))
        run.folder.mkdir(parents=True)
        run.metrics_file.write_text(text)
        run.config_file.write_text("trainer:\n  max_steps: 2000\n")
        (run.folder / "provenance.json").write_text(entry)
    before = time.process_time()
    told = [Row(run).to_dict() for run in scan(tmp_path)]
    assert time.process_time() - before < 3
    assert len(told) == 1000
    assert told[0]["best"]["val/accuracy"] == {"value": 0.5, "step": 1}


def test_the_table_imports_no_torch():
    script = "import sys, tfzoo.tracking.table, tfzoo.cli.jobs, tfzoo.cli.runs, tfzoo.cli.compare; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert not {"torch", "lightning", "datasets", "numpy", "wandb", "matplotlib", "plotext"} & set(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"started": 7, "ended": "today", "job": "12", "pace": [1]},
        {
            "started": None,
            "ended": {"how": 3, "time": 4},
            "job": {"id": 12},
            "pace": {"count": "x"},
        },
        {"started": "2026-11-24", "git": "ab", "best": "val/loss", "parameters": "many"},
    ],
)
def test_what_somebody_wrote_into_a_runs_files_hides_no_run(run, entry):
    for strange in ({"options": 3}, {"arguments": [1]}, {"sweep": "s"}, {"job": 12}):
        submitted(run, **strange)
        (run.folder / "provenance.json").write_text(json.dumps([entry]))
        assert Row(run).circumstances.submitted is None
        assert Row(run).to_dict()["run"] == "a"
        assert main(["jobs", "--runs", str(run.folder.parents[1]), "--all"]) == 0
