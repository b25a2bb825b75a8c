"""Experiments and sweeps submitted from a login node to a real SLURM."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from throwaway import Cluster

QUICK = ["--trainer.max_steps=4", "--data.batch_size=2"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


def test_a_sweep_is_one_array_whose_failed_point_is_submitted_again(
    cluster: Cluster, experiment: Callable[[str], Path], here: Path
):
    config = experiment("Generation")
    said = cluster.tfzoo(
        # One after the other: the third must not begin before it is broken below.
        *("submit", "-c", config, *QUICK, "--run_id=s", "--time=10", "--at-once=1"),
        *("--sweep", "model.backbone.depth=1,2", "--sweep", "seed_everything=1,2"),
        cwd=here,
    )
    folder = here / "runs" / config.stem
    runs = sorted(one for one in folder.iterdir() if one.name != "sweeps")
    assert len(runs) == 4
    assert all("depth=" in one.name and "seed_everything=" in one.name for one in runs), runs
    submissions = [json.loads((one / "submission.json").read_text()) for one in runs]
    jobs = [one["job"] for one in submissions]
    assert len({job.partition("_")[0] for job in jobs}) == 1
    assert jobs[0].partition("_")[0] in said
    # One of them cannot write: its metrics are a folder.
    broken = runs[2]
    (broken / "metrics.csv").mkdir()
    for job in jobs:
        state = cluster.ended(job)["JobState"]
        assert state == ("FAILED" if job == jobs[2] else "COMPLETED"), said
    (broken / "metrics.csv").rmdir()
    cluster.tfzoo("submit", "--again", broken, cwd=here)
    again = json.loads((broken / "submission.json").read_text())["job"]
    assert again != jobs[2]
    assert cluster.ended(again)["JobState"] == "COMPLETED"
    for run, submission in zip(runs, submissions, strict=True):
        written = (run / "config.yaml").read_text()
        point = submission["sweep"]["point"]
        assert f"depth: {next(v for k, v in point.items() if k.endswith('depth'))}" in written
        assert f"seed_everything: {point['seed_everything']}" in written
    table = cluster.tfzoo("runs", "runs", "--json", cwd=here)
    assert len(json.loads(table)) == 4
    assert cluster.tfzoo("jobs", cwd=here)


def test_a_point_of_four_makes_room_and_goes_on(
    cluster: Cluster, experiment: Callable[[str], Path], here: Path
):
    steps = 300
    said = cluster.tfzoo(
        *("submit", "-c", experiment("Generation"), f"--trainer.max_steps={steps}"),
        *(
            "--data.batch_size=2",
            "--trainer.log_every_n_steps=1",
            "--trainer.val_check_interval=300",
        ),
        *("--run_id=s", "--time=10", "--cpus=4", "--sweep=seed_everything=1,2,3,4"),
        cwd=here,
    )
    runs = sorted(one for one in (here / "runs/generation").iterdir() if one.name != "sweeps")
    jobs = [json.loads((one / "submission.json").read_text())["job"] for one in runs]
    assert len(runs) == 4

    def taken(run: Path) -> list[str]:
        file = run / "metrics.csv"
        return file.read_text().splitlines() if file.exists() else []

    cluster.wait("all points to train", lambda: all(len(taken(run)) > 5 for run in runs), 240)
    refused = cluster.tried(cluster.env["TFZOO"], "submit", "--again", runs[0], cwd=here)
    assert refused.returncode == 2
    assert f"is running (job {jobs[0]} on" in refused.stderr
    # Four times four processors are all there are: one point must go.
    urgent = cluster.call(
        *("sbatch", "--parsable", "--partition=urgent", "--cpus-per-task=4"),
        *("--output=/dev/null", "--wrap=sleep 1"),
        cwd=here,
    )
    ended = [cluster.ended(job) for job in jobs]
    assert [one["JobState"] for one in ended] == ["COMPLETED"] * 4, said
    assert sorted(one["Restarts"] for one in ended) == ["0", "0", "0", "1"]
    assert cluster.ended(urgent)["JobState"] == "COMPLETED"
    for run, job in zip(runs, ended, strict=True):
        lives = json.loads((run / "provenance.json").read_text())
        assert len(lives) == 1 + int(job["Restarts"])
        assert lives[-1]["ended"]["how"] == "finished"
        if len(lives) == 2:
            assert lives[0]["ended"]["how"] == "stopped"
            assert lives[0]["ended"]["step"] == lives[1]["resumed"]["step"] > 0
        with (run / "metrics.csv").open(newline="") as file:
            logged = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
        assert logged == list(range(steps))
    (sweep,) = (here / "runs/generation/sweeps").iterdir()
    assert sweep.name == "s"
    assert (
        sorted(one for one in (here / "runs/generation").iterdir() if one != sweep.parent) == runs
    )


REFUSED = {
    "no such key": (["--model.backbone.dpeth=2"], "depth"),
    "tasks disagree": (["--tasks=2", "--nodes=2", "--trainer.devices=1"], "devices"),
    "no such data": (["--data=nowhere/at/all.csv"], "nowhere/at/all.csv"),
    "sbatch's own": (["--partition=nosuch"], "invalid partition"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_before_it_waits(case, cluster, experiment, here):
    flags, word = REFUSED[case]
    arguments = ["submit", "-c", experiment("Generation"), *flags]
    if case == "no such key":  # one of them with all that imports may say
        done = cluster.tried(cluster.env["TFZOO"], *arguments, cwd=here)
    else:
        done = cluster.forked(*arguments, cwd=here)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("tfzoo: error: ")
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert not (here / "runs").exists() or not list((here / "runs").rglob("submission.json"))


def test_a_dry_run_prints_the_line_and_leaves_nothing(cluster, experiment, here):
    said = cluster.tfzoo(
        "submit", "-c", experiment("Generation"), "--time=10", "--dry-run", cwd=here
    )
    assert "sbatch" in said
    assert "train.sbatch" in said
    assert not list(here.iterdir())
