"""How many batches make a step, and how many lie between two validations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer


def set_intervals(trainer: Trainer, batches_per_step: int | None) -> None:
    """Batches of a step, and between validations, counted over all devices where a number of them is given.

    Raises ValueError where the devices cannot share them.
    """
    interval, devices = getattr(trainer, "val_check_interval", None), trainer.world_size
    if batches_per_step is not None:
        check_said_once(trainer.accumulate_grad_batches)
        if batches_per_step < 1 or batches_per_step % devices:
            raise ValueError(
                f"batches_per_step must be a multiple of the {devices} devices, not {batches_per_step}"
            )
        trainer.accumulate_grad_batches = batches_per_step // devices
        if isinstance(interval, int):
            interval = max(1, interval // devices)
    if interval is not None:  # no time
        trainer.val_check_interval = interval


class ValidateAtEnd(Callback):
    """Lets a run that is shorter than its interval be validated once, at its end: it has a best checkpoint too.

    Of runs with an end in steps or epochs; in time or on request they end as they are.
    """

    def __init__(self) -> None:
        self.interval: int | None = None  # in batches, that was asked for
        # Whether the validation at hand is one that a longer run would not have had.
        self.early = False

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        # Lightning has none where it is a time.
        interval = getattr(trainer, "val_check_interval", None)
        self.interval, self.early = interval if isinstance(interval, int) else None, False
        batches = trainer.max_steps * trainer.accumulate_grad_batches
        by_epoch = stage == "fit" and trainer.check_val_every_n_epoch is not None
        if by_epoch and self.interval is not None and 0 < batches < self.interval:
            trainer.val_check_interval = 1.0  # Lightning refuses what is longer than an epoch

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        if self.interval is None or loop._should_accumulate():
            return
        last = is_at_bound(trainer)
        if trainer.check_val_every_n_epoch is None:
            read = loop.total_batch_idx + 1
        else:
            read = loop.batch_idx + 1
            last &= (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        if last and read < self.interval:
            trainer.val_check_batch, self.early = read, trainer.limit_val_batches != 0

    def teardown(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        if self.interval is not None:
            trainer.val_check_interval = self.interval


def is_at_bound(trainer: Any) -> bool:
    """Whether the step just done is the last that the bounds on steps and epochs allow."""
    over = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
    return trainer.global_step == trainer.max_steps or (
        over and trainer.current_epoch + 1 == trainer.max_epochs
    )


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
