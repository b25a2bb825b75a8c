"""One training at a time in a run's folder, whoever died there before."""

import json
import os
import platform
import subprocess
import sys
import time
import zipfile

import pytest

from tfzoo.tracking import provenance
from tfzoo.tracking.lock import SILENT, Lock, holder, running_file
from tfzoo.tracking.runs import Run

HOLDS = """
import sys, time
from pathlib import Path
from tfzoo.tracking.lock import Lock
from tfzoo.tracking.runs import Run
Lock(Run(Path(sys.argv[1]))).take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "x" / "1").mkdir(parents=True)
    return Run(tmp_path / "x" / "1")


@pytest.fixture
def other(run):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run.folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def left(run, age=0.0, **said):
    """What a process of another machine left in the folder."""
    before = {
        "host": "elsewhere",
        "pid": 1,
        "job": None,
        "restarts": 0,
        "since": "2026-01-01T10:00",
    }
    running_file(run).write_text(json.dumps(before | said))
    os.utime(running_file(run), (time.time() - age,) * 2)


def test_a_second_training_is_refused_and_told_who_is_there(run, other):
    assert holder(run).pid == other.pid
    with pytest.raises(
        BlockingIOError, match=f"in use by process {other.pid} on {platform.node()}"
    ):
        Lock(run).take()


def test_a_killed_one_is_taken_over_at_once(run, other):
    other.kill()
    other.wait()
    assert running_file(run).exists()
    assert holder(run) is None
    lock = Lock(run)
    lock.take()
    assert holder(run).pid == os.getpid()
    lock.release()
    assert not running_file(run).exists()


LOOKS = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.lockf(file, fcntl.LOCK_SH)
print("looks", flush=True)
time.sleep(0.3)
"""


def test_who_only_looks_keeps_nobody_from_training(run):
    left(run, host=platform.node())
    looks = [sys.executable, "-c", LOOKS, str(running_file(run))]
    with subprocess.Popen(looks, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "looks\n"
        lock = Lock(run)
        lock.take()
    assert holder(run).pid == os.getpid()
    lock.release()


def test_on_another_machine_a_sign_of_life_counts(run):
    left(run)
    assert holder(run).host == "elsewhere"
    with pytest.raises(BlockingIOError, match="on elsewhere since 2026-01-01 10:00"):
        Lock(run).take()
    left(run, age=SILENT + 5)
    assert holder(run) is None


def test_a_requeued_job_takes_over_from_its_former_life(run, monkeypatch):
    for key in [key for key in os.environ if key.startswith("SLURM")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PATH", "")  # no squeue to ask
    left(run, job="12", restarts=0)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with pytest.raises(BlockingIOError, match="job 12 on elsewhere"):
        Lock(run).take()  # another step of a job that lives
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    lock = Lock(run)
    lock.take()
    lock.release()


class TestGoingOn:
    @pytest.fixture(autouse=True)
    def job(self, monkeypatch):
        for key in [key for key in os.environ if key.startswith("SLURM")]:
            monkeypatch.delenv(key)
        self.patch = monkeypatch

    def begin(self, run, job):
        run.checkpoints.mkdir()
        with zipfile.ZipFile(run.checkpoints / "step-00000005.ckpt", "w") as file:
            file.writestr("data.pkl", "weights")
        entry = [{"job": job and {"id": job, "restarts": 0, "nodes": ""}}]
        provenance.provenance_file(run).write_text(json.dumps(entry))

    def test_a_job_started_again_goes_on_unasked(self, run):
        self.begin(run, "12")
        self.patch.setenv("SLURM_JOB_ID", "12")
        self.patch.setenv("SLURM_RESTART_COUNT", "1")
        assert provenance.goes_on(run, asked=False, named=False)

    @pytest.mark.parametrize("asked", [False, True])
    def test_a_strangers_run_of_the_same_number_is_refused(self, run, asked):
        self.begin(run, "12")
        self.patch.setenv("SLURM_JOB_ID", "12")  # for the first time
        with pytest.raises(ValueError, match="of an earlier job with the number of this one"):
            provenance.goes_on(run, asked=asked, named=False)

    def test_a_run_is_not_overwritten(self, run):
        self.begin(run, None)
        with pytest.raises(ValueError, match="holds a run already"):
            provenance.goes_on(run, asked=False, named=True)
        assert provenance.goes_on(run, asked=True, named=True)

    def test_an_empty_folder_is_begun_in(self, run):
        assert not provenance.goes_on(run, asked=False, named=True)
