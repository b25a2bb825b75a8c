"""What becomes of the other processes of a training when the first one fails."""

from __future__ import annotations

import time
from contextlib import suppress
from subprocess import TimeoutExpired

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

PATIENCE = 5.0
"""Seconds in which processes that fail for the same reason end by themselves."""


class EndOthers(Callback):
    """Ends the processes that this one has started, when it fails: on a full disk, say, that it alone writes to.

    They wait for it in a collective, on GPUs for half an hour. Lightning ends them after Ctrl+C alone; and once one of
    them has ended, it kills this process within five seconds, be it still writing a checkpoint. Processes that torchrun
    or SLURM started are theirs to end.
    """

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        launcher = trainer.strategy.launcher
        if not isinstance(launcher, _SubprocessScriptLauncher):
            return
        others = list(launcher.procs)
        launcher.procs.clear()  # what is not there is not watched by Lightning
        patient_until = time.monotonic() + PATIENCE
        for process in others:
            with suppress(TimeoutExpired):
                process.wait(max(0.0, patient_until - time.monotonic()))
        for process in others:
            process.kill()
            with suppress(TimeoutExpired):
                process.wait(PATIENCE)
