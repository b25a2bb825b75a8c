"""Jobs of the project's own batch script on a real SLURM: they compute what one process does, whatever befalls them.

Jobs mostly start and wait; what befalls them happens to several side by side.
"""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from throwaway import SCRIPT, Cluster

STEPS = 240
SETTINGS = [
    *("--batches_per_step=4", "--data.batch_size=3", "--data.workers=1"),
    *(f"--trainer.max_steps={STEPS}", "--trainer.val_check_interval=600"),
    *("--trainer.log_every_n_steps=1", "--model.backbone.dropout=0"),
    '--trainer.logger=[{"class_path":"tfzoo.tracking.loggers.MetricsLogger"},{"class_path":"tfzoo.tracking.loggers.WandbLogger"}]',
]
FOR_LONG = [
    "--trainer.max_steps=1000000",
    '--trainer.callbacks+={"class_path":"disasters.Slow","init_args":{"seconds":0.2}}',
]
WITHOUT_WANDB = '--trainer.logger=[{"class_path":"tfzoo.tracking.loggers.MetricsLogger"}]'
SHARDED = [
    *("-c", str(SCRIPT.parents[1] / "configs/trainer/fsdp.yaml")),
    *("--trainer.accelerator=cpu", "--trainer.precision=32-true"),
]
SHAPES = {"1": (1, 1), "1x2": (1, 2), "2x2": (2, 2)}
"""Nodes, and tasks of each."""


class Place:
    """A folder of runs, and the jobs that write there."""

    def __init__(self, cluster: Cluster, folder: Path, config: Path) -> None:
        self.cluster, self.folder, self.config = cluster, folder, config
        self.jobs: list[str] = []

    def for_itself(self) -> Place:
        """The same place, for jobs that are cancelled together."""
        return Place(self.cluster, self.folder, self.config)

    def submit(
        self, name: str, shape: str, *more: str, options: tuple[str, ...] = (), **env: str
    ) -> str:
        nodes, tasks = SHAPES[shape]
        job = self.cluster.call(
            *("sbatch", "--parsable", f"--nodes={nodes}", f"--ntasks-per-node={tasks}", *options),
            *(f"--output={name}.out", SCRIPT, "-c", self.config, *SETTINGS),
            *(f"--experiment={name}", *more),
            cwd=self.folder,
            **env,
        )
        self.jobs.append(job)
        return job

    def cancel(self) -> None:
        self.cluster.tried("scancel", *self.jobs)

    def run(self, name: str) -> Path:
        """The only run of a name."""
        (run,) = (one for one in (self.folder / "runs" / name).iterdir())
        return run

    def losses(self, name: str) -> dict[int, float]:
        with (self.run(name) / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
        return {int(row["step"]): float(row["train/loss"]) for row in rows}

    def lives(self, name: str) -> list[dict]:
        return json.loads((self.run(name) / "provenance.json").read_text())

    def trains(self, name: str, steps: int = 5) -> None:
        """Waits until a job has taken some steps."""

        def taken() -> bool:
            try:
                return len(self.losses(name)) >= steps
            except (OSError, ValueError):
                return False

        self.cluster.wait(f"{name} to train", taken, 240, every=0.5)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text()


@pytest.fixture(scope="module")
def place(
    cluster: Cluster, experiment: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Place:
    folder = tmp_path_factory.mktemp("jobs") / "here"
    folder.mkdir()
    return Place(cluster, folder, experiment("Generation"))


@pytest.fixture(scope="module")
def whole(place: Place) -> Place:
    """Each shape trained without a disturbance."""
    names = {f"whole-{shape}": shape for shape in SHAPES}
    jobs = {name: place.submit(name, shape, WITHOUT_WANDB) for name, shape in names.items()}
    jobs["sharded"] = place.submit("sharded", "2x2", WITHOUT_WANDB, *SHARDED)
    for name, job in jobs.items():
        assert place.cluster.ended(job)["JobState"] == "COMPLETED", place.said(name)
    return place


@pytest.mark.parametrize("shape", SHAPES)
def test_tasks_share_one_training(shape, whole):
    nodes, tasks = SHAPES[shape]
    (life,) = whole.lives(f"whole-{shape}")
    devices = life["devices"]
    assert (devices["nodes"], devices["on_each_node"]) == (nodes, tasks)
    assert devices["world_size"] == nodes * tasks
    assert life["ended"]["how"] == "finished"
    one, many = whole.losses("whole-1"), whole.losses(f"whole-{shape}")
    assert len(many) == STEPS
    assert many == pytest.approx(one, rel=1e-5, abs=1e-5)


def test_tasks_share_the_weights_of_one_training(whole):
    (life,) = whole.lives("sharded")
    assert life["devices"]["strategy"] == "FullySharded"
    assert life["devices"]["world_size"] == 4
    ours = whole.losses("sharded")
    assert len(ours) == STEPS
    assert ours == pytest.approx(whole.losses("whole-1"), rel=1e-5, abs=1e-5)


def assert_same(place: Place, name: str, shape: str) -> None:
    """The losses are those of a run never interrupted: on one process to the last bit.

    Several processes add their gradients in an order that gloo chooses anew.
    """
    ours, theirs = place.losses(name), place.losses(f"whole-{shape}")
    assert len(theirs) == STEPS
    assert ours == (theirs if shape == "1" else pytest.approx(theirs, rel=1e-5, abs=1e-5))


def assert_goes_on(place: Place, name: str, shape: str, restarts: int, how: str) -> None:
    """One run folder and one W&B run, from the saved step on, with the losses of a run never interrupted."""
    lives = place.lives(name)
    assert [life["job"]["restarts"] for life in lives] == list(range(restarts + 1))
    for before, after in pairwise(lives):
        assert before["ended"]["how"] == how
        assert before["ended"]["step"] == after["resumed"]["step"] > 0
    assert lives[-1]["ended"] == {**lives[-1]["ended"], "how": "finished", "step": STEPS}
    assert_same(place, name, shape)
    parts = [one.name.split("-", 3)[3] for one in (place.run(name) / "wandb").glob("offline-run-*")]
    assert parts == [f"{name}-{place.run(name).name}"] * (restarts + 1)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH whose env is of before coreutils 8.31."""
    folder = tmp_path_factory.mktemp("older")
    script = 'case "$1" in --*) exit 125 ;; esac\nexec /usr/bin/env "$@"'
    (folder / "env").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "env").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


BESIDE = 3
"""To so many jobs something happens at once; more would only wait for processors."""

HAPPENS: dict[Callable[..., None], Callable[[Place], None]] = {}


def side_by_side(happens: Callable[[Place], None]) -> Callable[..., None]:
    """Makes a test of what happens to a job, and that may happen while other things happen to others."""

    def test(happening: dict[Callable[..., None], Future[None]]) -> None:
        happening[test].result()

    test.__name__ = happens.__name__
    HAPPENS[test] = happens
    return test


@pytest.fixture(scope="module")
def happening(
    whole: Place, request: pytest.FixtureRequest
) -> Iterator[dict[Callable[..., None], Future[None]]]:
    """Of the chosen tests that are made by `side_by_side` all that happens, begun."""
    chosen = [getattr(item, "function", None) for item in request.session.items]
    pool = ThreadPoolExecutor(BESIDE)

    def happen(test: Callable[..., None]) -> None:
        place = whole.for_itself()
        try:
            HAPPENS[test](place)
        finally:
            place.cancel()  # or what failed would take the others' processors

    yield {test: pool.submit(happen, test) for test in HAPPENS if test in chosen}
    pool.shutdown(cancel_futures=True)


REACHES = "--export=PATH,HOME,TFZOO,PYTHONPATH,OMP_NUM_THREADS,WANDB_MODE"
"""Where a job has no more of the environment it was submitted from."""


@side_by_side
def test_a_time_limit(whole):
    limits = ("--time=2", "--signal=SIGUSR2@60")  # SLURM looks twice a minute
    job = whole.submit("limited", "1", *FOR_LONG, options=limits)
    whole.cluster.wait("the limit", lambda: whole.cluster.job(job)["Restarts"] == "1", 240)
    whole.cluster.wait("its second life", lambda: len(whole.lives("limited")) == 2, 120)
    whole.cluster.call("scancel", job)
    first, second = whole.lives("limited")
    assert first["ended"]["step"] == second["resumed"]["step"] > 0


def requeued(place: Place, shape: str) -> None:
    name = f"requeued-{shape}"
    job = place.submit(name, shape, options=(REACHES,))
    place.trains(name)
    place.cluster.call("scancel", "--signal=USR2", job)
    ended = place.cluster.ended(job)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), place.said(name)
    assert_goes_on(place, name, shape, 1, "stopped")


@side_by_side
def test_a_signal_requeues_four_processes_on_two_nodes(whole):
    requeued(whole, "2x2")


@side_by_side
def test_a_signal_requeues_one_process(whole):
    requeued(whole, "1")


def resubmitted(place: Place, name: str, shape: str) -> None:
    job = place.submit(name, shape, f"--run_id={place.run(name).name}")
    assert place.cluster.ended(job)["JobState"] == "COMPLETED", place.said(name)
    assert_same(place, name, shape)


@side_by_side
def test_a_cancelled_job_has_saved_and_goes_on_when_submitted_again(whole):
    job = whole.submit("cancelled", "1")
    whole.trains("cancelled")
    whole.cluster.call("scancel", job)
    whole.cluster.ended(job)
    (life,) = whole.lives("cancelled")
    assert life["ended"]["how"] == "stopped"
    step = life["ended"]["step"]
    assert (whole.run("cancelled") / f"checkpoints/step-{step:08d}.ckpt").exists()
    assert not (whole.run("cancelled") / "running.json").exists()
    resubmitted(whole, "cancelled", "1")
    assert whole.lives("cancelled")[1]["resumed"]["step"] == step


@side_by_side
def test_one_rank_is_killed(whole):
    every = json.dumps([{"class_path": "Last", "init_args": {"every_n_steps": 2}}])
    job = whole.submit("killed", "1x2", f"--trainer.callbacks={every}")
    whole.trains("killed")
    holder = json.loads((whole.run("killed") / "running.json").read_text())
    assert holder["job"] == job
    os.kill(holder["pid"], signal.SIGKILL)
    ended = whole.cluster.ended(job, 90)
    assert ended["JobState"] == "FAILED", whole.said("killed")
    resubmitted(whole, "killed", "1x2")


@side_by_side
def test_two_trainings_under_one_job_are_refused(whole):
    job = whole.submit("refused", "1x2", "--trainer.devices=1", "--batches_per_step=1")
    assert whole.cluster.ended(job)["JobState"] == "FAILED"
    assert "SLURM started 2 tasks on 1 nodes, but the trainer is for 1 devices" in whole.said(
        "refused"
    )
    assert not (whole.folder / "runs/refused").exists() or not any(
        (whole.folder / "runs/refused").iterdir()
    )


@side_by_side
def test_a_run_folder_in_use_is_refused_and_a_requeue_that_slurm_refuses_is_no_success(whole):
    job = whole.submit("used", "1", *FOR_LONG, options=("--no-requeue",))
    whole.trains("used")
    other = whole.cluster.forked("resume", whole.run("used"), cwd=whole.folder)
    assert other.returncode == 2
    assert f"is in use by job {job} on" in other.stderr
    whole.cluster.call("scancel", "--signal=USR2", job)
    ended = whole.cluster.ended(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0"), whole.said("used")
    assert f"SLURM does not requeue job {job}" in whole.said("used")


# Last, when nothing else runs that it would drive out.
def test_a_more_urgent_job_takes_the_place(whole, older):
    # Submitted from within a task of an array, whose numbers are none of its own.
    inherited = {"SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "3"}
    job = whole.submit("preempted", "1", PATH=older, **inherited)
    whole.trains("preempted")
    urgent = whole.cluster.call(
        *("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive"),
        *("--output=/dev/null", "--wrap=sleep 1"),
        cwd=whole.folder,
    )
    ended = whole.cluster.ended(job)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), whole.said("preempted")
    assert whole.cluster.ended(urgent)["JobState"] == "COMPLETED"
    assert_goes_on(whole, "preempted", "1", 1, "stopped")
    assert {life["job"]["id"] for life in whole.lives("preempted")} == {job}
