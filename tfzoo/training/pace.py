"""How much a training gets through, and in what time: noted in provenance.json while it trains."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from tfzoo.tracking import provenance
from tfzoo.tracking.runs import Run

EVERY = 10.0
"""Seconds between two notes: about what a run killed without warning loses of them."""


class Pace(Callback):
    """Notes in the latest entry of provenance.json how far a training is: steps, tokens or samples, and seconds.

    Not in metrics.csv, where a run that was killed and resumed must read as one that never was: times never do. The
    seconds are those of training, what waits for data included, validation not. Tokens or samples are counted on the
    device, and read only for a note.
    """

    began: float | None = None
    left: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.monotonic()
        self.noted = -EVERY
        self.apart = 0.0  # seconds that were not spent on training
        self.left = None  # when it was interrupted, until it goes on

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.left is not None:
            self.apart += time.monotonic() - self.left
            self.left = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if time.monotonic() - self.noted >= EVERY:
            self._note(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.left = self.left or time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.began is not None:  # else it was tried out before training
            self._note(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._note(trainer, pl_module)

    def _note(self, trainer: Trainer, pl_module: Any) -> None:
        self.noted = time.monotonic()
        if not trainer.is_global_zero or self.began is None:
            return
        done = pl_module.step_mean.done
        provenance.note_pace(
            Run(Path(trainer.default_root_dir)),
            step=trainer.global_step,
            counted=pl_module.counted,
            count=0 if done is None else int(done),
            seconds=round((self.left or self.noted) - self.began - self.apart, 3),
        )
