"""One training at a time in a run's folder: `running.json` says which, and is locked while it lives."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from tfzoo.tracking.job import Job
from tfzoo.tracking.runs import Run

BEAT = 30.0
"""Seconds between two signs of life."""
SILENT = 4 * BEAT
"""Seconds without one, after which a process on another machine is taken for dead."""
TRIES = 10
"""How often a lock that cannot be had is tried again."""
PAUSE = 0.1
"""Seconds between two tries."""


def running_file(run: Run) -> Path:
    return run.folder / "running.json"


@dataclass(frozen=True)
class Holder:
    """The process that trains in a run's folder.

    job: SLURM's, or None, in its how manieth life; since: when it began there, ISO 8601.
    """

    host: str
    pid: int
    job: str | None
    restarts: int
    since: str

    def told(self) -> str:
        who = f"job {self.job}" if self.job else f"process {self.pid}"
        return f"{who} on {self.host} since {self.since.replace('T', ' ')[:16]}"


def holder(run: Run) -> Holder | None:
    """Who trains in a run's folder now; None where nobody does, be it that a process died there."""
    file = running_file(run)
    if (held := _held.get(file.absolute())) is not None:
        return held.holder  # to open it here again would drop the lock
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        found = _read(descriptor)
        free = _try_lock(descriptor, fcntl.LOCK_SH)
        return found if found and _lives(found, free, os.fstat(descriptor).st_mtime) else None
    finally:
        os.close(descriptor)


def check_free(run: Run) -> None:
    """Raises BlockingIOError naming who trains in a run's folder now."""
    if (found := holder(run)) is not None:
        raise _in_use(run.folder, found)


def _in_use(folder: Path, by: Holder | None) -> BlockingIOError:
    who = by.told() if by else "another process"
    return BlockingIOError(
        f"the run folder {folder} is in use by {who}: wait for its end, or choose another with --run_id"
    )


class Lock:
    """Holds a run's folder from `take` to `release`, or to the death of this process.

    A lock of the operating system (POSIX, which NFS and Lustre know too), and for file systems that do not share
    locks between machines a sign of life every 30 seconds. What a dead process left is taken over: at once where it
    was on this machine or of this very job, or where SLURM knows its job no more; else after two minutes.
    """

    def __init__(self, run: Run) -> None:
        self.file = running_file(run)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        job = Job.here()
        self.holder = Holder(
            platform.node(), os.getpid(), job.id if job else None, job.restarts if job else 0, now
        )
        self.descriptor = -1
        self.over = threading.Event()

    def take(self) -> None:
        """Raises BlockingIOError naming who trains there."""
        for patience in range(TRIES, -1, -1):
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                free = _try_lock(descriptor, fcntl.LOCK_EX)
                before = _read(descriptor)
                lives = before is not None and _lives(before, free, os.fstat(descriptor).st_mtime)
                gone = not _is_same(descriptor, self.file)  # whoever held it has just let go of it
                if not (lives or gone or free is False):
                    self._begin(descriptor)
                    return
                if patience == 0 or (lives and free is not False):
                    raise _in_use(self.file.parent, before)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            time.sleep(PAUSE)  # somebody may only look who trains here, and hold the lock for that

    def _begin(self, descriptor: int) -> None:
        content = json.dumps(asdict(self.holder)).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content + b"\n", 0)
        self.descriptor = descriptor
        _held[self.file.absolute()] = self
        threading.Thread(target=self._beat, name="sign of life", daemon=True).start()

    def release(self) -> None:
        """Let go of it, and remove running.json."""
        if self.descriptor < 0:
            return
        self.over.set()
        _held.pop(self.file.absolute(), None)
        with suppress(OSError):  # a folder that went away is nobody's
            if _is_same(self.descriptor, self.file):
                self.file.unlink()
        os.close(self.descriptor)
        self.descriptor = -1

    def _beat(self) -> None:
        while not self.over.wait(BEAT):
            with suppress(OSError):
                os.utime(self.descriptor)


_held: dict[Path, Lock] = {}


def _try_lock(descriptor: int, kind: int) -> bool | None:
    """Whether the lock could be had; None where this file system knows no locks."""
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _read(descriptor: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(descriptor, 1 << 12, 0)))
    except (ValueError, TypeError):
        return None


def _lives(found: Holder, free: bool | None, beat: float) -> bool:
    """Whether a holder lives, whose lock could be had or not, and whose last sign of life is known."""
    if free is False:
        return True
    if free and found.host == platform.node():
        return False  # a lock of this machine would be seen
    if time.time() - beat >= SILENT:
        return False
    if found.job is not None:
        here = Job.here()
        if here is not None and here.id == found.job and here.restarts > found.restarts:
            return False  # SLURM starts a job again only when it is dead
        if _is_over(found.job):
            return False
    return True


def _is_over(job: str) -> bool:
    """Whether SLURM knows for sure that a job does not run."""
    if shutil.which("squeue") is None:
        return False
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    if done.returncode != 0:
        return "Invalid job id" in done.stderr
    running = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "CONFIGURING", "SIGNALING"}
    return not running & set(done.stdout.split())


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
