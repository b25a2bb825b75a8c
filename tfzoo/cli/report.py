"""The few lines a person wants at the start and at the end of a training run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tfzoo.cli.places import program, short
from tfzoo.tracking.readings import read_curves
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
def tell_done(run: Run, trainer: Trainer) -> None:
    """That a run which is gone on with was already where it should come to."""
    bound = f"--trainer.{'max_epochs' if _ended_by_epochs(trainer) else 'max_steps'}"
    print(
        f"nothing to train: {run.folder} has done {trainer.global_step} steps; to go on, say more with {bound}",
        flush=True,
    )


@rank_zero_only
def tell_end(run: Run, trainer: Trainer) -> None:
    """Best metric, where the checkpoint is, how to look at it, how to go on."""
    lines, folder, runs = [], short(run.folder), short(run.folder.parent.parent)
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
            lines.append(f"best {_best(run, callback, trainer.global_step)}")
            lines.append(f"checkpoint {short(Path(callback.best_model_path))}")
    lines += [
        f"metrics, samples and pictures in {folder}",
        f"beside other runs: {program()} compare {folder} OTHER",
        f"all of them: {program()} runs {runs}, or in the browser {program()} dashboard {runs}",
    ]
    if newest_checkpoint(run) is not None:
        # A training that reached its end goes on only where it is given a later one.
        longer = ""
        if _ended_by_epochs(trainer):
            longer = f" --trainer.max_epochs {2 * (trainer.max_epochs or 1)}"
        elif trainer.max_steps > 0:
            longer = f" --trainer.max_steps {2 * trainer.max_steps}"
        lines.append(f"go on with {program()} resume {folder}{longer}")
    print("\n".join(lines), flush=True)


def _ended_by_epochs(trainer: Trainer) -> bool:
    """Rather than by steps: the bound that is to be raised."""
    epochs = trainer.max_epochs
    return (
        epochs is not None
        and 0 <= epochs <= trainer.current_epoch
        and trainer.global_step != trainer.max_steps
    )


def _best(run: Run, callback: ModelCheckpoint, steps: int) -> str:
    """The metric, its best value, and when that was, as far as metrics.csv tells."""
    metric, score = str(callback.monitor), float(callback.best_model_score)  # type: ignore[arg-type]
    curve = read_curves(run.metrics_file, {metric}).get(metric, [])
    at = [step for step, value in curve if math.isclose(value, score)]
    return f"{metric} {score:.4f}" + (f" after {at[0]} of {steps} steps" if at else "")
