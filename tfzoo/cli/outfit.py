"""The loggers and callbacks of a training: those asked for, placed in its run's folder, and those of the house."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar

from tfzoo.tracking.loggers import MetricsLogger, WandbLogger
from tfzoo.tracking.runs import Run
from tfzoo.tracking.trackio_logger import TrackioLogger, is_installed
from tfzoo.training.callbacks import Lines, Progress, Show
from tfzoo.training.guard import Guard
from tfzoo.training.intervals import ValidateAtEnd
from tfzoo.training.last import Last
from tfzoo.training.others import EndOthers
from tfzoo.training.pace import Pace
from tfzoo.training.stopping import Stop
from tfzoo.training.throughput import Throughput

LOGGERS: list[dict[str, Any]] = [
    {"class_path": "tfzoo.tracking.loggers.MetricsLogger"},
    {"class_path": "tfzoo.tracking.loggers.WandbLogger"},
    {"class_path": "tfzoo.tracking.trackio_logger.TrackioLogger"},
]
"""Of a training that names none."""


def loggers_of(
    run: Run,
    asked: Any,
    settings: Any,
    best: tuple[str, str],
    config: Callable[[], dict[str, Any]],
) -> list[Any]:
    """Our loggers again, this time in the run's folder, which was not known when the config was read.

    Args:
        asked: the trainer's loggers as the config's were built: one, a list, True for the usual ones, none.
        settings: the same as the config says it, each a class_path and what it was given.
        best: the metric that decides, and whether "min" or "max" of it is best.
        config: makes what runs are compared by, which takes a moment; called only for who shows it.
    """
    if not asked:
        return []
    wanted: list[tuple[type, Any, dict[str, Any]]]
    if asked is True:
        wanted = [(kind, None, {}) for kind in (MetricsLogger, WandbLogger, TrackioLogger)]
    else:
        wanted = [
            (type(logger), logger, {**said.get("init_args", {}), **said.get("dict_kwargs", {})})
            for logger, said in zip(listed(asked), listed(settings), strict=True)
        ]
    placed: list[Any] = []
    for kind, logger, said in wanted:
        if issubclass(kind, MetricsLogger):
            placed.append(MetricsLogger(run.folder))
        elif issubclass(kind, WandbLogger):
            wandb = WandbLogger(**{**said, "save_dir": run.folder})
            wandb.modes = dict([best])
            wandb.set_config(config())
            placed.append(wandb)
        elif not issubclass(kind, TrackioLogger):
            placed.append(logger)
        elif is_installed():  # whatever the config says: it may come from elsewhere
            trackio = TrackioLogger(**{**said, "save_dir": run.folder})
            trackio.set_config(config())
            placed.append(trackio)
    return placed


def callbacks_of(
    run: Run, asked: list[Any], best: tuple[str, str], loggers: list[Any]
) -> list[Any]:
    """Those asked for and, of each kind of the house that is not among them, one."""
    callbacks = list(asked)
    if not any(isinstance(c, ModelCheckpoint) for c in callbacks):
        metric, mode = best
        callbacks.append(
            ModelCheckpoint(
                run.checkpoints,
                filename="best",
                monitor=metric,
                mode=mode,
                enable_version_counter=False,
            )
        )
    # Last of all, so that its checkpoints know what the others have just found best.
    last = [c for c in callbacks if isinstance(c, Last)] or [Last()]
    callbacks = [*(c for c in callbacks if not isinstance(c, Last)), *last]
    # First, so that they see the averaged weights before EMA puts the current ones back.
    for kind in (
        Guard,
        Stop,
        Show,
        Pace,
        Throughput,
        LearningRateMonitor,
        EndOthers,
        ValidateAtEnd,
    ):
        if not any(isinstance(c, kind) for c in callbacks):
            callbacks = [kind(), *callbacks]
    if not loggers:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    if all(isinstance(logger, MetricsLogger) for logger in loggers):  # which takes no times
        callbacks = [c for c in callbacks if not isinstance(c, Throughput)]
    return callbacks


def watched(callbacks: list[Any], settings: dict[str, Any]) -> list[Any]:
    """With a progress bar where somebody watches, if none is given or ruled out; lines for a log else."""
    if settings["enable_progress_bar"] is False or any(
        isinstance(c, ProgressBar) for c in callbacks
    ):
        return callbacks
    if sys.stderr.isatty():
        return [*callbacks, Progress()]
    settings["enable_progress_bar"] = False
    return [*callbacks, Lines()]


def listed(value: Any) -> list[Any]:
    """None, one or several as a list of them."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
