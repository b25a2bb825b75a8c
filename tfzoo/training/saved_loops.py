"""What the loops of a checkpoint say of where training stands, mended so that Lightning 2.6 goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfzoo.training.intervals import validates_early

Mend = Callable[[dict[str, Any]], None]
"""Changes the state of a fit loop."""


def after_validation(trainer: Any) -> list[Mend]:
    """Of what is saved when a validation has ended."""
    over = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
    if validates_early(trainer):
        return [end_epoch] if over else [before_validation]
    # Resumed between an epoch's last batch and the next epoch, Lightning begins a stream twice.
    if over and trainer.num_training_batches == float("inf"):
        return [end_epoch, count_no_step] if _idles(trainer) else [end_epoch]
    return []


def end_epoch(loop: dict[str, Any]) -> None:
    """Let the state of a fit loop, saved after an epoch's last batch, be that before the next epoch's first.

    From the former Lightning 2.6 goes on with an epoch too few: started, it believes, but never ended.
    """
    batches, optimizing = loop["epoch_loop.batch_progress"], "epoch_loop.automatic_optimization"
    batches["total"]["completed"] = batches["total"]["processed"]
    batches["is_last_batch"] = False
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    epochs = loop["epoch_progress"]
    for progress in (epochs["total"], epochs["current"]):
        progress["processed"] = progress["completed"] = progress["ready"]
    steps = loop[f"{optimizing}.optim_progress"]["optimizer"].values()
    seen = loop["epoch_loop.val_loop.batch_progress"]  # counted by epoch
    seen["total"] = dict.fromkeys(seen["total"], 0)
    for progress in (batches, loop["epoch_loop.scheduler_progress"], *steps):
        progress["current"] = dict.fromkeys(progress["current"], 0)


def before_validation(loop: dict[str, Any]) -> None:
    """Let the last batch not be done with: a longer run would not have validated here, and Lightning counts on that."""
    batches = loop["epoch_loop.batch_progress"]
    for progress in (batches["total"], batches["current"]):
        progress["completed"] = progress["processed"] - 1


def count_no_step(loop: dict[str, Any]) -> None:
    """Take back the step that Lightning counts where it skips a validation."""
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def _idles(trainer: Any) -> bool:
    """Whether Lightning, resumed at the epoch after a validation, takes it for due, skips it, and counts a step."""
    interval, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if interval == float("inf"):
        return False
    if epochs is None:
        return (trainer.fit_loop.epoch_loop.total_batch_idx + 1) % interval == 0
    return (trainer.current_epoch + 2) % epochs == 0
