"""What SLURM knows of jobs: those in the queue, and those that ended, as long as it remembers them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

PATIENCE = 20
"""Seconds that SLURM may take to answer."""
MOST = 50
"""Jobs that are asked for one by one."""
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ACTIVE = {
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
}
_FORMAT = "%i|%T|%M|%N|%D|%k|%r"


@dataclass(frozen=True)
class Job:
    """A job, or a task of an array.

    id: `12` or `12_3`; state: SLURM's word; used: its time, as SLURM writes it; nodes: their names, or how many are
    asked for; comment: what it was submitted with; reason: why it waits, or how it ended.
    """

    id: str
    state: str
    used: str = ""
    nodes: str = ""
    comment: str = ""
    reason: str = ""

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def is_there(self) -> bool:
        """Whether it is not over."""
        return self.state in WAITING | ACTIVE

    @property
    def failed(self) -> bool:
        return not self.is_there and self.state != "COMPLETED"

    def told(self) -> str:
        """Its state in words, with the reason where there is one."""
        state = self.state.lower().replace("_", " ")
        return f"{state} ({self.reason})" if self.reason else state


def jobs(ids: Iterable[str] = ()) -> dict[str, Job]:
    """Whatever SLURM knows of this user's jobs, and of those named, by number; empty where there is no SLURM.

    The controller remembers a job for some minutes, an accounting database for ever. Raises OSError where squeue does
    not answer.
    """
    if shutil.which("squeue") is None:
        return {}
    asked = list(dict.fromkeys(ids))
    command = ("squeue", "--noheader", "--array", "--states=all", f"--format={_FORMAT}")
    if (answer := _answer(*command, f"--user={os.getuid()}")) is None:
        raise OSError("squeue does not answer: SLURM's controller may be down")
    found = parse_queue(answer)
    # squeue tells no exit code, and no job of another user.
    unclear = [id for id in asked if id not in found or found[id].failed]
    for id in unclear[:MOST]:
        for job in parse_job(_answer("scontrol", "--oneliner", "show", "job", id) or ""):
            found[job.id] = job
    if missing := [id for id in asked if id not in found]:
        found |= parse_accounting(_accounting(missing))
    return found


def parse_queue(text: str) -> dict[str, Job]:
    """Jobs as squeue prints them."""
    found = {}
    for line in text.splitlines():
        parts = line.strip().split("|", 6)
        if len(parts) != 7:
            continue
        id, state, used, nodes, count, comment, reason = parts
        plain = "" if reason in ("None", "(null)") else reason
        comment = "" if comment == "(null)" else comment
        found[id] = Job(id, state, used, nodes or count, comment, plain)
    return found


def parse_job(text: str) -> list[Job]:
    """Jobs as `scontrol --oneliner show job` prints them."""
    found = []
    for line in text.splitlines():
        said = dict(re.findall(r"(\w+(?:/\w+)*)=(.*?)(?=\s+[\w/:]+=|$)", line))
        if "JobId" not in said or "JobState" not in said:
            continue
        id = said["JobId"]
        if "ArrayJobId" in said and said.get("ArrayTaskId", "").isdecimal():
            id = f"{said['ArrayJobId']}_{said['ArrayTaskId']}"
        reason = said.get("Reason", "None")
        reason = "" if reason in ("None", "(null)") else reason
        code = said.get("ExitCode", "0:0")
        state = said["JobState"]
        if state not in WAITING | ACTIVE and code != "0:0":
            reason = _exit(code)
        nodes = said.get("NodeList", "").replace("(null)", "") or said.get("NumNodes", "")
        comment = said.get("Comment", "").replace("(null)", "")
        used = re.sub(r"^(00:)?0?", "", said.get("RunTime", ""), count=1)  # as squeue
        found.append(Job(id, state, used, nodes, comment, reason))
    return found


def parse_accounting(text: str) -> dict[str, Job]:
    """Jobs as `sacct --parsable2` prints them, with the columns of `_accounting`."""
    found = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) < 5 or not re.fullmatch(r"\d+(_\d+)?", parts[0]):
            continue
        id, state, used, nodes, code, *comment = parts
        state = state.split()[0] if state else "UNKNOWN"  # CANCELLED by 1000
        nodes = "" if nodes == "None assigned" else nodes
        reason = _exit(code) if code not in ("", "0:0") else ""
        found[id] = Job(id, state, used, nodes, "|".join(comment), reason)
    return found


def _accounting(ids: list[str]) -> str:
    if shutil.which("sacct") is None:
        return ""
    columns = "JobID,State,Elapsed,NodeList,ExitCode,Comment"
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={columns}"]
    return _answer(*command, f"--jobs={','.join(ids)}") or ""


def _exit(code: str) -> str:
    """`1:0` or `0:9` in words."""
    status, _, signal = code.partition(":")
    return f"signal {signal}" if signal not in ("", "0") else f"exit code {status}"


def _answer(*command: str) -> str | None:
    """What a command prints; None where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
