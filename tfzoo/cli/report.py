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
    bounds = " and ".join(f"--trainer.{name}" for name in _reached(trainer))
    more = f"; to go on, say more with {bounds}" if bounds else ""
    print(
        f"nothing to train: {run.folder} has done {trainer.global_step} steps{more}",
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
        reached = _reached(trainer).items()
        longer = "".join(f" --trainer.{name} {2 * bound}" for name, bound in reached if bound)
        lines.append(f"go on with {program()} resume {folder}{longer}")
    print("\n".join(lines), flush=True)


def _reached(trainer: Trainer) -> dict[str, int]:
    """The bounds that a training has come to, an epoch that its last step cut short counted: those to raise."""
    bounds = {
        "max_steps": (trainer.max_steps, trainer.global_step),
        "max_epochs": (trainer.max_epochs, trainer.current_epoch),
    }
    return {
        name: bound
        for name, (bound, done) in bounds.items()
        if bound is not None and 0 <= bound <= done
    }


def _best(run: Run, callback: ModelCheckpoint, steps: int) -> str:
    """The metric, its best value, and when that was, as far as metrics.csv tells."""
    metric, score = str(callback.monitor), float(callback.best_model_score)  # type: ignore[arg-type]
    curve = read_curves(run.metrics_file, {metric}).get(metric, [])
    at = [step for step, value in curve if math.isclose(value, score)]
    return f"{metric} {score:.4f}" + (f" after {at[0]} of {steps} steps" if at else "")
