"""The few lines a person wants at the start and at the end of a training run."""

from __future__ import annotations

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tfzoo.tracking.runs import Run


@rank_zero_only
def tell_start(run: Run) -> None:
    print(f"run {run.experiment}/{run.id} in {run.folder}", flush=True)


@rank_zero_only
def tell_end(run: Run, trainer: Trainer) -> None:
    """Best metric, where the checkpoint is, how to look at it, how to go on."""
    lines = []
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        if callback.best_model_score is not None:
            lines.append(f"best {callback.monitor} {float(callback.best_model_score):.4f}")
        if callback.best_model_path:
            lines.append(f"checkpoint {callback.best_model_path}")
        if callback.last_model_path:
            lines.append(
                f"go on with tfzoo fit -c {run.config_file} --ckpt_path {callback.last_model_path}"
            )
    print("\n".join([*lines, f"metrics, samples and pictures in {run.folder}"]), flush=True)
