"""What libraries say unasked, and a user can do nothing about, is not shown."""

from __future__ import annotations

import logging
import sys
import warnings

import datasets

_WARNINGS = (
    # What is logged at the end of an epoch is pooled over devices already.
    ".*recommended to use `self.log.*sync_dist=True.*",
    ".*set_vital.*",
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    # Measuring writes no checkpoints, and does without the callback that wrote this one.
    ".*callbacks used to create the checkpoint.*",
    # A run that goes on has checkpoints already.
    ".*Checkpoint directory .* exists and is not empty.*",
    # Ours return every sample once, and evaluation is no sharding.
    ".*using a custom batch sampler.*",
    ".*WeightAveraging callback with a model that overrides.*",
    # On a login node trainings are tried out without srun.
    ".*`srun` command is available on your system but is not used.*",
    # A short training logs at its validations.
    ".*smaller than the logging interval.*",
)
_NOTICES = (
    "Seed set to",
    "GPU available",
    "TPU available",
    "`Trainer(val_check_interval",
    "Restoring states from the checkpoint",
    "Restored all states from the checkpoint",
    "Found current_model_state in the checkpoint",
    "Loaded model weights from the checkpoint",
    "litlogger",
)


def quieten() -> None:
    """Hide such notices; and the data's progress bars where nobody is watching."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in (
        "fabric.utilities.seed",
        "fabric.utilities.rank_zero",
        "pytorch.utilities.rank_zero",
    ):
        logging.getLogger(f"lightning.{name}").addFilter(_is_worth_saying)
    # A log of W&B's that cannot be written, to a full disk say, is nothing to fill the terminal for.
    logging.raiseExceptions = False
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return not any(notice in record.getMessage() for notice in _NOTICES)
