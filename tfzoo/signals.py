"""Requests to make room, by signal: a training heeds them at its next safe point, anything else at once.

SIGUSR2 asks to stop and be started again: SLURM sends it ahead of a time limit or of another job (`--signal` in
slurm/train.sbatch). SIGTERM asks to stop, and so does Ctrl-C (SIGINT); the second one ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple

from tfzoo.tracking.job import is_first

AGAIN = 75
"""The exit code after SIGUSR2, EX_TEMPFAIL of sysexits.h: start me again."""

GRACE = 30
"""Seconds that a process which prepares batches outlives SIGTERM: the training may need it for its last step."""


class Request(NamedTuple):
    """A signal that asks to stop, and when it came, by `time.monotonic`."""

    signal: signal.Signals
    time: float


class Stopped(SystemExit):
    """The end of a process that was asked for it; `message` says what it leaves.

    The first process of a job speaks for all: the others exit with 0, so that srun does not take their end for a
    failure and kill the first one while it still writes.
    """

    def __init__(self, request: Request, message: str) -> None:
        code = AGAIN if request.signal == signal.SIGUSR2 else 128 + request.signal
        super().__init__(code if is_first() else 0)
        self.message = f"{request.signal.name}: {message}"


_HEEDED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)

_received: list[Request] = []
_listener = 0  # the process that listens; those it forks do not
_patient = False


@contextmanager
def heeded() -> Iterator[None]:
    """Within, these signals end this process, also one that came while it was blocked. For the main thread.

    Raises Stopped from wherever the process is then, until `be_patient` is called.
    """
    global _listener, _patient
    _received.clear()
    before = {number: signal.getsignal(number) for number in _HEEDED}
    _listener, _patient = os.getpid(), False
    listen()
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)
        _listener, _patient = 0, False


def listen() -> None:
    """Take these signals (back) from whoever handles them. Where nothing is `heeded` they are left alone."""
    if _listener == os.getpid():
        for number in _HEEDED:
            signal.signal(number, _receive)


def be_patient() -> None:
    """Only note signals from now on: whoever calls this asks for `received`."""
    global _patient
    _patient = True


def received() -> Request | None:
    """The first request so far."""
    return _received[0] if _received else None


def spare_worker(_: int) -> None:
    """For a process that prepares batches, as its `worker_init_fn`: torch would let it die of SIGTERM at once."""
    for number in _HEEDED:
        signal.signal(number, _receive)


def _receive(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _listener:
        # srun signals every process of a job, also those that prepare batches, without which no step ends.
        if number == signal.SIGTERM:
            signal.alarm(GRACE)
        return
    if number == signal.SIGINT and (not _patient or _received):
        raise KeyboardInterrupt  # by a person who does not want to wait
    request = Request(signal.Signals(number), time.monotonic())
    _received.append(request)
    if number == signal.SIGINT and is_first():
        with suppress(OSError, RuntimeError):  # in the midst of a write to the same stream
            print("\ntfzoo: stopping at this step's end; Ctrl-C again: at once", file=sys.stderr)
    if not _patient:
        raise Stopped(request, "stopped; nothing was written")
