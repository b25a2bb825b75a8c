"""Jobs followed to their end: a progress view on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tfzoo.cli.places import short
from tfzoo.slurm import queue
from tfzoo.tracking.runs import Run
from tfzoo.tracking.table import Row

EVERY = 3.0
"""Seconds between two looks."""
LINE = 60.0
"""Seconds between two lines on a run, where nobody watches a terminal."""
PATIENCE = 3
"""Looks in a row that must find a run over: a requeued job is between two lives for a moment."""


def watch(runs: Sequence[Run]) -> None:
    """Follows runs until all are over. Raises SystemExit(1) where one has not finished, with the reason told."""
    try:
        with _view(runs) as view:
            rows = _followed(runs, view)
    except KeyboardInterrupt:
        jobs = sorted({(Row(run).circumstances.job or "?").partition("_")[0] for run in runs})
        print(
            f"tfzoo: watching no longer; the job goes on (tfzoo jobs shows it, scancel {' '.join(jobs)} ends it)",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    failed = [row for row in rows if row.state.word != "finished"]
    for row in rows:
        told = f"run {short(row.run.folder)} {row.state.told()}"
        print(
            f"tfzoo: {told}" if row in failed else f"{told}{_metrics(row)}",
            flush=True,
            file=sys.stderr if row in failed else sys.stdout,
        )
    if failed:
        raise SystemExit(1)


def _followed(runs: Sequence[Run], view: View) -> list[Row]:
    known: Mapping[str, queue.Job] = {}
    over = 0
    while True:
        try:
            known = queue.jobs(job for run in runs if (job := Row(run).circumstances.job))
        except OSError:  # the controller has much to do: what it said before may still hold
            over = 0
        else:
            rows = [Row(run, known) for run in runs]
            for row in rows:
                view.show(row)
            over = 0 if any(row.state.is_going for row in rows) else over + 1
            # What finished by its own word needs no second look.
            if over >= PATIENCE or all(row.state.word in ("finished", "failed") for row in rows):
                return rows
        time.sleep(EVERY if over == 0 else 1.0)


class View:
    """Plain lines: one when a run's state changes, and now and then one on its step."""

    def __init__(self) -> None:
        self.told: dict[Run, tuple[str, float, int | None]] = {}

    def show(self, row: Row) -> None:
        state, when, step = self.told.get(row.run, ("", 0.0, None))
        now, word = time.monotonic(), row.state.told()
        moved = row.figures.step != step and now - when >= LINE
        if row.state.word != state.partition(" ")[0] or moved:
            print(f"{row.run.id} {word}{_step(row)}{_metrics(row)}", flush=True)
            self.told[row.run] = (word, now, row.figures.step)


class Bars(View):
    """A bar of each run on a terminal."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.bars: dict[Run, TaskID] = {}

    def show(self, row: Row) -> None:
        if row.run not in self.bars:
            self.bars[row.run] = self.progress.add_task(row.run.id, total=None)
        self.progress.update(
            self.bars[row.run],
            total=row.max_steps,
            completed=row.figures.step or 0,
            description=f"{row.run.id} {row.state.told()}",
            figures=f"{_step(row)}{_metrics(row)}".strip(),
        )


@contextmanager
def _view(runs: Sequence[Run]) -> Iterator[View]:
    console = Console()
    if not console.is_terminal:
        yield View()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        # A column asks for its field also before the first look.
        bars = Bars(progress)
        bars.bars = {run: progress.add_task(run.id, total=None, figures="") for run in runs}
        yield bars


def _step(row: Row) -> str:
    if row.figures.step is None:
        return ""
    return f" step {row.figures.step}{f' of {row.max_steps}' if row.max_steps else ''}"


def _metrics(row: Row) -> str:
    """The newest training loss and the best of what the run is judged by."""
    told = []
    if (loss := row.figures.last.get("train/loss")) is not None:
        told.append(f"train/loss {loss:.4g}")
    if row.main is not None:
        value, step = row.figures.best[row.main]
        told.append(f"best {row.main} {value:.4g} at step {step}")
    return f" {', '.join(told)}" if told else ""
