"""What SLURM prints is understood, and that there is no SLURM is no mistake."""

from __future__ import annotations

import subprocess

import pytest

from tfzoo.slurm import queue
from tfzoo.slurm.queue import Job, parse_accounting, parse_job, parse_queue

QUEUE = """\
12|RUNNING|1-02:03:04|sn[1-2]|2|tfzoo:gen/a|None
13_0|PENDING|0:00||1|(null)|Resources
13_1|COMPLETED|0:16|sn1|1|tfzoo:gen/sweeps/s|None
14|PENDING|0:00||4|x|ReqNodeNotAvail, UnavailableNodes:sn[1|2]
slurm_load_jobs error
"""


def test_squeue():
    found = parse_queue(QUEUE)
    assert list(found) == ["12", "13_0", "13_1", "14"]
    assert found["12"] == Job("12", "RUNNING", "1-02:03:04", "sn[1-2]", "tfzoo:gen/a")
    assert found["12"].is_there
    assert not found["12"].waits
    assert found["13_0"].waits
    assert found["13_0"].told() == "pending (Resources)"
    assert not found["13_1"].is_there
    assert not found["13_1"].failed
    assert found["14"].reason == "ReqNodeNotAvail, UnavailableNodes:sn[1|2]"


SHOWN = (
    "JobId=5 ArrayJobId=2 ArrayTaskId=3 JobName=gen UserId=root(0) JobState=FAILED Reason=NonZeroExitCode "
    "Dependency=(null) Restarts=0 ExitCode=2:0 RunTime=00:00:16 NodeList=sn1 Comment=tfzoo:gen/sweeps/s "
    "TRES=cpu=1,node=1 Command=/a b/train.sbatch -c a=b.yaml\n"
    "JobId=6 JobName=x JobState=PENDING Reason=Priority ExitCode=0:0 RunTime=00:00:00 NodeList=(null) NumNodes=2\n"
)


def test_scontrol():
    failed, waits = parse_job(SHOWN)
    assert failed == Job("2_3", "FAILED", "0:16", "sn1", "tfzoo:gen/sweeps/s", "exit code 2")
    assert failed.failed
    assert waits.told() == "pending (Priority)"
    assert waits.nodes == "2"


def test_sacct():
    text = (
        "2_3|FAILED|00:00:16|sn1|2:0|tfzoo:a\n"
        "7|CANCELLED by 1000|01:00:00|None assigned|0:15|\n"
        "7.batch|X|||\n"
    )
    found = parse_accounting(text)
    assert found["2_3"].reason == "exit code 2"
    assert (found["7"].state, found["7"].nodes) == ("CANCELLED", "")
    assert found["7"].reason == "signal 15"
    assert len(found) == 2


def test_no_slurm_knows_no_jobs(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_: None)
    assert queue.jobs(["1"]) == {}


def test_a_controller_that_is_down_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_: "/bin/x")

    def late(*_, **__):
        raise subprocess.TimeoutExpired("squeue", 1)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(OSError, match="does not answer"):
        queue.jobs(["1"])
