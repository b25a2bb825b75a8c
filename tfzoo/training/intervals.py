"""How many batches make a step, and how many lie between two validations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer


def set_intervals(trainer: Trainer, batches_per_step: int | None) -> None:
    """Batches of a step, and between validations, counted over all devices where a number of them is given.

    Raises ValueError where the devices cannot share them.
    """
    interval, devices = trainer.val_check_interval, trainer.world_size
    if batches_per_step is not None:
        check_said_once(trainer.accumulate_grad_batches)
        if batches_per_step < 1 or batches_per_step % devices:
            raise ValueError(
                f"batches_per_step must be a multiple of the {devices} devices, not {batches_per_step}"
            )
        trainer.accumulate_grad_batches = batches_per_step // devices
        if isinstance(interval, int):
            interval = max(1, interval // devices)
    trainer.val_check_interval = interval


class ValidateAtEnd(Callback):
    """Lets a run that is shorter than its interval be validated once, at its end: it has a best checkpoint too."""

    def __init__(self) -> None:
        self.interval: int | float | None = None  # that was asked for
        self.early = (
            False  # whether this run validates where one that goes on from its end would not have
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.interval, self.early = trainer.val_check_interval, False
        batches = trainer.max_steps * trainer.accumulate_grad_batches
        if stage == "fit" and isinstance(self.interval, int) and 0 < batches < self.interval:
            trainer.val_check_interval = batches  # Lightning refuses what is longer than an epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = batches_in_all(trainer)
        self.early = isinstance(self.interval, int) and 0 < batches < self.interval
        if self.early and trainer.check_val_every_n_epoch is None:
            trainer.val_check_batch = int(batches)


def batches_in_all(trainer: Trainer) -> float:
    """How many are read until the bound on steps or epochs is reached; infinite without one."""
    epoch, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    by_steps = by_epochs = math.inf
    if trainer.max_steps >= 0:
        # An epoch's last batch ends a step, however few are accumulated.
        epochs, steps = 0, trainer.max_steps
        if math.isfinite(epoch):
            epochs, steps = divmod(steps, max(1, math.ceil(epoch / accumulated)))
        by_steps = (epochs * epoch if epochs else 0) + steps * accumulated
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        by_epochs = trainer.max_epochs * epoch
    return min(by_steps, by_epochs)


def validates_early(trainer: Any) -> bool:
    """Whether a run validates at its end alone, where one that goes on from there would not have."""
    return any(
        isinstance(callback, ValidateAtEnd) and callback.early for callback in trainer.callbacks
    )


def check_counts(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for settings of a trainer that count, and are no counts: Lightning divides by them."""
    least = {"accumulate_grad_batches": 1, "log_every_n_steps": 1, "gradient_clip_val": 0}
    for name, bound in least.items():
        value = settings.get(name)
        if value is not None and value < bound:
            raise ValueError(f"trainer.{name} must be at least {bound}, not {value}")
    interval = settings.get("val_check_interval")
    if isinstance(interval, int | float) and interval <= 0:
        raise ValueError(f"trainer.val_check_interval must be above 0, not {interval}")


def check_said_once(accumulate: int) -> None:
    """Raises ValueError where batches_per_step is said beside a number of batches to accumulate."""
    if accumulate != 1:
        raise ValueError(
            "batches_per_step and trainer.accumulate_grad_batches say the same: leave one out, "
            "or set it to null or 1"
        )
