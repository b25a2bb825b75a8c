"""Checkpoints written while training goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection

from tfzoo.training.checkpoint import WholeCheckpointIO


class BackgroundCheckpointIO(WholeCheckpointIO):
    """Copies the state to the host's memory, which training waits for, and writes it in a thread, which it does not.

    Said in one line: `--trainer.plugins=BackgroundCheckpointIO`. Lightning's AsyncCheckpointIO copies on the device,
    holds as many copies as are waiting, and keeps an error to itself until the next checkpoint. Here two copies at most
    are held (the best and the newest state of one validation), on the host; files are written and removed in the order
    asked; what follows an error is neither written nor removed; and `check`, called at every step, raises it.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._room = BoundedSemaphore(2)
        self._error: BaseException | None = None
        self._failed = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        self.check()
        self._room.acquire()
        try:
            copy = on_host(checkpoint)
        except BaseException:
            self._room.release()
            raise
        self._later(self._save, copy, path)

    def _save(self, checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
        super().save_checkpoint(checkpoint, path)

    def remove_checkpoint(self, path: str | os.PathLike) -> None:
        """Only when what was asked for before it is written."""
        self._room.acquire()
        self._later(super().remove_checkpoint, path)

    def _later(self, work: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            try:
                if not self._failed:
                    work(*arguments)
            except BaseException as error:  # of a thread that nobody else listens to
                self._error, self._failed = error, True
            finally:
                self._room.release()

        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._thread.submit(run)

    def check(self) -> None:
        """Raises, once, what went wrong in the background."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def teardown(self) -> None:
        """Wait until all is written; raises what went wrong."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        self._failed = False
        self.check()


def on_host(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A copy that nothing done to its tensors later can change; weights that are tied stay one."""
    copies: dict[Any, torch.Tensor] = {}

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if not tensor.numel() or place not in copies:  # all empty ones lie nowhere
            copies[place] = tensor.detach().to("cpu", copy=True)
        return copies[place]

    return apply_to_collection(checkpoint, torch.Tensor, copied)
