"""How many batches make a step, and how many lie between two validations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Trainer


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
    # A run shorter than its interval is validated once, at its end: it has a best checkpoint too.
    batches = trainer.max_steps * trainer.accumulate_grad_batches
    if isinstance(interval, int) and 0 < batches < interval:
        interval = batches
        trainer.validates_early = True  # type: ignore[attr-defined]
    trainer.val_check_interval = interval


def validates_early(trainer: Trainer) -> bool:
    """Whether a run validates at its end alone, where one that goes on from there would not have."""
    return getattr(trainer, "validates_early", False)


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
