"""Experiments and sweeps submitted from a login node to a real SLURM."""

from __future__ import annotations

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
        *("submit", "-c", config, *QUICK, "--run_id=s", "--time=10"),
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
        state = cluster.ended(job, 300)["JobState"]
        assert state == ("FAILED" if job == jobs[2] else "COMPLETED"), said
    (broken / "metrics.csv").rmdir()
    cluster.tfzoo("submit", "--again", broken, cwd=here)
    again = json.loads((broken / "submission.json").read_text())["job"]
    assert again != jobs[2]
    assert cluster.ended(again, 200)["JobState"] == "COMPLETED"
    for run, submission in zip(runs, submissions, strict=True):
        written = (run / "config.yaml").read_text()
        point = submission["sweep"]["point"]
        assert f"depth: {next(v for k, v in point.items() if k.endswith('depth'))}" in written
        assert f"seed_everything: {point['seed_everything']}" in written
    table = cluster.tfzoo("runs", "runs", "--json", cwd=here)
    assert len(json.loads(table)) == 4
    assert cluster.tfzoo("jobs", cwd=here)


REFUSED = {
    "no such key": (["--model.backbone.dpeth=2"], "depth"),
    "tasks disagree": (["--tasks=2", "--nodes=2", "--trainer.devices=1"], "devices"),
    "no such data": (["--data=nowhere/at/all.csv"], "nowhere/at/all.csv"),
    "sbatch's own": (["--partition=nosuch"], "invalid partition"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_before_it_waits(case, cluster, experiment, here):
    flags, word = REFUSED[case]
    done = cluster.tried(
        cluster.env["TFZOO"], "submit", "-c", experiment("Generation"), *flags, cwd=here
    )
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
