"""What goes wrong while a run trains: disks that fill up, processes that die. Named in configs as callbacks."""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.utils.data
from lightning import Callback, Trainer

FILLER = "filler"


def fill(folder: Path, spare: int = 0) -> None:
    """Fill the disk that a folder is on, up to its last byte or some spare ones."""
    with (folder / FILLER).open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
        if spare:
            file.truncate(file.tell() - spare)


class FullDisk(Callback):
    """The disk of the run is full from a moment on.

    Args:
        moment: the callback's hook at which it fills up.
        step: optimiser steps that are done by then, at least.
        disk: a folder on it; none: that of the run.
        spare: bytes that are left.
    """

    def __init__(self, moment: str, step: int = 0, disk: str | None = None, spare: int = 0) -> None:
        self.step, self.disk, self.spare, self.full = step, disk, spare, False
        setattr(self, moment, self._fill)

    def _fill(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.global_step >= self.step and not self.full:
            self.full = True
            fill(Path(self.disk or trainer.default_root_dir), self.spare)


class WorkerDies(Callback):
    """A process that prepares batches is killed when so many steps are done."""

    def __init__(self, step: int, signal: int = signal.SIGKILL) -> None:
        self.step, self.signal, self.killed = step, signal, False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.killed:
            self.killed = True
            (worker, *_) = trainer.train_dataloader._iterator._workers
            os.kill(worker.pid, self.signal)


class WorkerFails(Callback):
    """Preparing batches fails in a process beside the training, as on a broken sample or a full disk."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def setup(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        batches = data.batches

        def failing(*arguments: Any) -> Any:
            split = batches(*arguments)
            return replace(split, dataset=_Failing(split.dataset, self.kind))

        data.batches = failing


class Slow(Callback):
    """Each batch takes so many seconds more, in which nothing is computed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(self.seconds)


class ProcessesFail(Callback):
    """Processes of a training fail when so many steps are done, and each leaves a file named by its number.

    Args:
        ranks: which of them fail.
        step: optimiser steps that are done by then.
        folder: where the files are.
        saving: seconds that a checkpoint takes to be written.
    """

    def __init__(self, ranks: list[int], step: int, folder: str, saving: float = 0.0) -> None:
        self.ranks, self.step, self.folder, self.saving = ranks, step, Path(folder), saving

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        (self.folder / str(os.getpid())).touch()
        usual = torch.save

        def slow(*arguments: Any) -> None:
            time.sleep(self.saving)
            usual(*arguments)

        torch.save = slow  # type: ignore[assignment]

    def on_before_backward(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank in self.ranks:
            raise ValueError(f"something is wrong at step {self.step}")


class _Failing(torch.utils.data.Dataset):
    def __init__(self, inner: Any, kind: str) -> None:
        self.inner, self.kind = inner, kind

    def __getitems__(self, draws: Any) -> Any:
        if self.kind == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise ValueError("the sample is broken:\n  mend it")
