"""Trainings that die by SIGKILL: at a moment of their own, or so many seconds after their first checkpoint.

Run as a program it makes a process for every training of a file of commands; forks, unless they need a GPU.
"""

from __future__ import annotations

import gc
import io
import json
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import get_worker_info

from tfzoo.cli import main
from tfzoo.tracking.runs import Run, newest_checkpoint, numbered
from tfzoo.training.callbacks import Show


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(usual: Callable, *_: Any, **__: Any) -> None:
    die()


def after(usual: Callable, *arguments: Any, **named: Any) -> None:
    usual(*arguments, **named)
    die()


def inside_backward(usual: Callable, loss: torch.Tensor, *rest: Any, **named: Any) -> None:
    loss.register_hook(lambda _: die())
    usual(loss, *rest, **named)


def half_a_checkpoint(usual: Callable, checkpoint: Any, file: Any, *_: Any) -> None:
    content = io.BytesIO()
    usual(checkpoint, content)
    file.write(content.getvalue()[: content.tell() // 2])
    file.flush()
    die()


def half_a_row(usual: Callable, file: Any, *_: Any, **__: Any) -> None:
    opened = file.file or file._open()
    opened.write(b"12,0.3")
    opened.flush()
    die()


def half_a_file(usual: Callable, path: Path, content: bytes) -> None:
    path.with_name(f".{path.name}.{os.getpid()}").write_bytes(content[: len(content) // 2])
    die()


def in_the_worker(usual: Callable, *_: Any) -> None:
    """The trainer dies while its worker loads, which ends with it."""
    assert get_worker_info() is not None
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)


MOMENTS: dict[str, tuple[str, str, Callable]] = {
    "in backward": ("torch.Tensor", "backward", inside_backward),
    # One call for each of two groups of parameters.
    "in the optimiser's step": ("torch.optim.adam", "adam", after),
    "in validation": (
        "lightning.pytorch.loops.evaluation_loop._EvaluationLoop",
        "_evaluation_step",
        after,
    ),
    "while a checkpoint is written": ("torch", "save", half_a_checkpoint),
    "between fsync and rename": ("os", "fsync", after),
    "between a checkpoint and the log of its step": (
        "tfzoo.training.last.Last",
        "_save",
        after,
    ),
    "between rename and removal of the old": ("tfzoo.training.last", "remove", before),
    "while a row is logged": ("tfzoo.tracking.metrics.MetricsFile", "log_metrics", half_a_row),
    "while metrics.csv is rewritten": ("tfzoo.tracking.metrics", "write_whole", half_a_file),
    "while config.yaml is written": ("tfzoo.cli.begin", "write_whole", half_a_file),
    "while provenance.json is written": ("tfzoo.tracking.provenance", "write_whole", half_a_file),
    "while a worker loads": (
        "torch.utils.data._utils.fetch._MapDatasetFetcher",
        "fetch",
        in_the_worker,
    ),
    "while a worker streams": (
        "torch.utils.data._utils.fetch._IterableDatasetFetcher",
        "fetch",
        in_the_worker,
    ),
}
"""Of each moment the function that is called there, and what becomes of its last call."""


def arm(moment: str, number: int) -> None:
    """Let this process die at a moment, when it comes there for the given time."""
    where, name, act = MOMENTS[moment]
    owner: Any = pkgutil.resolve_name(where)
    usual, calls = getattr(owner, name), count(1)

    def armed(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            act(usual, *arguments, **named)
        return usual(*arguments, **named)

    setattr(owner, name, armed)


def live(arguments: list[str], folder: str, death: Any) -> int:
    """A life of a run, until its death if that is a moment: begun, or gone on with where it has a checkpoint."""
    if isinstance(death, list):
        arm(*death)
    goes_on = newest(Run(Path(folder))) is not None
    return main(["resume", folder] if goes_on else arguments)


def newest(run: Run) -> Path | None:
    return newest_checkpoint(run) if run.started() else None


def without_pictures() -> None:
    Show.on_validation_epoch_end = lambda show, *_: show._forget()  # they take most of the time
    Show.on_train_end = lambda *_: None


def forked(command: str) -> int:
    """A process of a life, which spares itself the imports. Returns its number."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os._exit(live(*json.loads(command)))
    return child


def fresh(command: str) -> int:
    """The same as a new program: a GPU is lost to the forks of a process that has looked at it."""
    program = [sys.executable, __file__, "--live", command]
    return os.posix_spawn(program[0], program, os.environ, setpgroup=0)


def served(commands: Path, born: Callable[[str], int]) -> None:
    """Runs each command of a file of JSON lines, [arguments, folder of the run, death], in a process of its own.

    The first one of forks is run here. death: [moment, number], seconds after its next checkpoint (negative: after its
    start), or none.
    """
    lines = commands.read_text().splitlines()
    if born is forked:
        assert live(*json.loads(lines.pop(0))) == 0
        gc.collect()
        gc.freeze()  # or each fork would copy what its collector looks at
    for line in lines:
        _, folder, death = json.loads(line)
        run = Run(Path(folder))
        old = newest(run)
        began = time.monotonic()
        child = born(line)
        if isinstance(death, float):
            patience = time.monotonic() + 60
            while death >= 0 and newest_checkpoint(run) == old:
                assert time.monotonic() < patience
                time.sleep(0.01)
            time.sleep(abs(death))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # workers that have outlived it
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(
            f"{time.monotonic() - began:.2f}",
            death,
            status,
            [file.name for file in numbered(run.checkpoints)],
            flush=True,
        )
        assert killed if death is not None else status == 0, (death, status)


if __name__ == "__main__":
    without_pictures()
    if sys.argv[1] == "--live":
        sys.exit(live(*json.loads(sys.argv[2])))
    served(Path(sys.argv[2]), {"--forked": forked, "--fresh": fresh}[sys.argv[1]])
