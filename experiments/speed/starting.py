"""How long a command takes to begin, each in a process of its own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback

LIBRARIES = "import tfzoo, torch, lightning, datasets"
"""tfzoo itself, without its parts, imports nothing; it declares what lets torchvision load beside a CPU's torch."""


class FirstStep(Callback):
    """Ends the process as the first training step does."""

    def on_train_batch_end(self, *_: Any) -> None:
        os._exit(0)


@dataclass
class Start:
    """Seconds on the clock and of processor time, medians of several rounds."""

    name: str
    wall: float
    processor: float


def started(command: Sequence[str]) -> tuple[float, float]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryFile() as said:  # no pipe, which a process of W&B's would keep open
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "WANDB_MODE": "offline"},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, said.read().decode()
    return wall, used.ru_utime + used.ru_stime


def starts(fit: Sequence[str], rounds: int) -> list[Start]:
    """`tfzoo --help`, `tfzoo fit` to the end of its first step, and the import of its libraries, in turns."""
    tfzoo = [sys.executable, "-c", "import sys; from tfzoo.cli import main; sys.exit(main())"]
    first = '--trainer.callbacks=[{"class_path": "starting.FirstStep"}]'
    commands = {
        "tfzoo --help": [*tfzoo, "--help"],
        "import torch, lightning, datasets": [sys.executable, "-c", LIBRARIES],
        "tfzoo fit, to its first step": [*tfzoo, "fit", *fit, first],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            found = started(command)
            if turn:  # the first one reads files from the disk, and prepares data
                taken[name].append(found)
    return [
        Start(name, *(statistics.median(column) for column in zip(*rows, strict=True)))
        for name, rows in taken.items()
    ]
