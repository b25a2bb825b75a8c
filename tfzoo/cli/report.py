"""The few lines a person wants at the start and at the end of a training run."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tfzoo.tracking.runs import Run, newest_checkpoint


@rank_zero_only
def tell_start(run: Run) -> None:
    print(f"run {run.experiment}/{run.id} in {run.folder}", flush=True)


@rank_zero_only
def tell_resumed(checkpoint: str | Path, step: int) -> None:
    print(f"resuming from {checkpoint}, after step {step}", flush=True)


@rank_zero_only
def tell_changed(differences: list[str]) -> None:
    if differences:
        what = ", ".join(differences)
        print(f"tfzoo: warning: not as it was when this run began: {what}", file=sys.stderr)


@rank_zero_only
def tell_end(run: Run, trainer: Trainer) -> None:
    """Best metric, where the checkpoint is, how to look at it, how to go on."""
    lines = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
            lines.append(f"best {callback.monitor} {float(callback.best_model_score):.4f}")
            lines.append(f"checkpoint {callback.best_model_path}")
    last = newest_checkpoint(run)
    if last is not None:
        # A training that reached its end goes on only where it is given a later one.
        longer = f" --trainer.max_steps {2 * trainer.max_steps}" if trainer.max_steps > 0 else ""
        lines.append(f"go on with tfzoo resume {run.folder}{longer}")
    print("\n".join([*lines, f"metrics, samples and pictures in {run.folder}"]), flush=True)
