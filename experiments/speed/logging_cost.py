"""What logging costs a training: milliseconds a row for each logger, and their share of a step of 50 ms.

    python experiments/speed/logging_cost.py [ROWS]

A row is what a training logs every tenth step: the loss, two learning rates, the epoch. W&B is offline, its own process
on the same machine. The median says what a row costs; the mean holds what came in between, such as a file grown.
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import tfzoo  # noqa: F401
from tfzoo.tracking.loggers import MetricsLogger, WandbLogger
from tfzoo.tracking.trackio_logger import TrackioLogger

STEP_MS = 50.0
LOG_EVERY = 10


def times(log: Callable[[dict, int], None], rows: int) -> list[float]:
    """Milliseconds of each call, after ten that open files and start what is to be started."""
    taken = []
    for step in range(rows + 10):
        metrics = {
            "train/loss": 1 / (step + 1),
            "learning_rate/pg1": 1e-3,
            "learning_rate/pg2": 1e-3,
            "epoch": 0,
        }
        began = time.perf_counter()
        log(metrics, step)
        taken.append(1e3 * (time.perf_counter() - began))
        time.sleep(0.002)  # a training does something else, and W&B's process has its turn
    return taken[10:]


def main(rows: int) -> None:
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {rows} rows")
    print(f"{'logger':<16}{'median ms':>12}{'mean ms':>12}{'of a step':>12}")
    means = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "speed" / "one"
        for logger in (
            MetricsLogger(folder),
            WandbLogger(folder, offline=True),
            TrackioLogger(folder),
        ):
            taken = times(logger.log_metrics, rows)
            means.append(statistics.fmean(taken))
            share = means[-1] / LOG_EVERY / STEP_MS
            name = type(logger).__name__
            print(f"{name:<16}{statistics.median(taken):>12.3f}{means[-1]:>12.3f}{share:>12.2%}")
            logger.finalize("success")
    print(f"{'together':<16}{'':>12}{sum(means):>12.3f}{sum(means) / LOG_EVERY / STEP_MS:>12.2%}")
    print(f"were every step logged, {sum(means) / STEP_MS:.2%} of a step of {STEP_MS:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
