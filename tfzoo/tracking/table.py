"""Runs as rows of a table: circumstances, state, and the figures of metrics.csv, read fast."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tfzoo.tracking.runs import Run
from tfzoo.tracking.state import Circumstances, Job, State
from tfzoo.tracking.submitted import seconds, submission_file

FIRST = ("val/accuracy", "val/chrf", "val/loss")
"""The metric to rank runs by, where a run does not say which."""
_LOWER = re.compile(r"loss|perplexity|bits|error|norm|seconds|memory", re.I)


@dataclass(frozen=True)
class Figures:
    """What metrics.csv says.

    step: how many were done at the last row (rows are numbered by the step that they end, from 0); last: of each metric
    the last value; best: of each validation or test metric the best value, and after how many steps.
    """

    step: int | None = None
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, tuple[float, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, modes: Mapping[str, str] | None = None) -> Figures:
        """Those of a file; none where there is no file, and without a last line that was cut short.

        modes: of metrics, "min" or "max"; others are taken for what their names say.
        """
        try:
            content = path.read_bytes()
        except OSError:
            return cls()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        columns = next(csv.reader([lines[0].decode("utf-8", "replace")])) if lines else []
        if "step" not in columns:
            return cls()
        rows = lines[1:]
        last = _last(columns, rows)
        step = last.pop("step", None)
        return cls(None if step is None else int(step) + 1, last, _best(columns, rows, modes or {}))


def _last(columns: Sequence[str], rows: Sequence[bytes]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in reversed(rows):
        for column, cell in zip(columns, row.split(b","), strict=False):
            if cell and column not in found:
                found[column] = _number(cell)
        if len(found) == len(columns):
            break
    return {column: found[column] for column in columns if column in found}


def _best(
    columns: Sequence[str], rows: Sequence[bytes], modes: Mapping[str, str]
) -> dict[str, tuple[float, int]]:
    measured = [i for i, c in enumerate(columns) if c.startswith(("val/", "test/"))]
    if not measured:
        return {}
    # Most rows are of training, and end in blanks.
    width = len(columns)
    blank = b"," * (width - measured[0]) if measured == list(range(measured[0], width)) else None
    step = columns.index("step")
    lower = {columns[i]: lower_is_better(columns[i], modes) for i in measured}
    best: dict[str, tuple[float, int]] = {}
    for row in rows:
        if blank is not None and row.endswith(blank):
            continue
        cells = row.split(b",")
        for place in measured:
            if place < len(cells) and cells[place]:
                name, value = columns[place], _number(cells[place])
                if name not in best or _better(value, best[name][0], lower[name]):
                    best[name] = (value, int(_number(cells[step])) + 1)
    return best


def _number(cell: bytes) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def lower_is_better(metric: str, modes: Mapping[str, str] | None = None) -> bool:
    """By what is said of it, "min" or "max", else by its name."""
    said = (modes or {}).get(metric)
    return said == "min" if said else bool(_LOWER.search(metric))


def _better(value: float, than: float, lower: bool) -> bool:
    if math.isnan(than) or math.isnan(value):
        return math.isnan(than) and not math.isnan(value)
    return value < than if lower else value > than


class Row:
    """A run, with what is read of it when it is asked for."""

    def __init__(self, run: Run, queue: Mapping[str, Job] | None = None) -> None:
        self.run = run
        self.queue: Mapping[str, Job] = queue or {}
        self.circumstances = Circumstances(run)

    @cached_property
    def state(self) -> State:
        return self.circumstances.state(self.queue)

    @cached_property
    def figures(self) -> Figures:
        return Figures.read(self.run.metrics_file, self.modes)

    @cached_property
    def modes(self) -> dict[str, str]:
        """Of the metric that its best checkpoint is kept by: min or max."""
        entries = self.circumstances.entries
        best = entries[-1].get("best") if entries else None
        told = best if isinstance(best, dict) else {}
        return {str(told["metric"]): str(told.get("mode"))} if "metric" in told else {}

    @cached_property
    def max_steps(self) -> int | None:
        """As the run's config says; read without a parser of YAML, which takes a hundred times as long."""
        try:
            found = re.search(rb"^  max_steps: (\d+)", self.run.config_file.read_bytes(), re.M)
        except OSError:
            return None
        return int(found[1]) if found else None

    @property
    def sweep(self) -> dict[str, Any] | None:
        submitted = self.circumstances.submitted
        return submitted.sweep if submitted else None

    @property
    def point(self) -> dict[str, Any]:
        """The values that vary in its sweep."""
        return (self.sweep or {}).get("point") or {}

    @property
    def main(self) -> str | None:
        """The validation metric that it is judged by."""
        best = self.figures.best
        return next((name for name in (*self.modes, *FIRST, *best) if name in best), None)

    @property
    def time(self) -> float:
        """When it was submitted, or began."""
        submitted, entries = self.circumstances.submitted, self.circumstances.entries
        first = submitted.time if submitted else 0.0
        return first or (seconds(entries[0].get("started")) if entries else 0.0)

    def to_dict(self) -> dict[str, Any]:
        figures = self.figures
        return {
            "experiment": self.run.experiment,
            "run": self.run.id,
            "folder": str(self.run.folder),
            "state": self.state.word,
            "why": self.state.why,
            "job": self.circumstances.job,
            "sweep": self.sweep,
            "step": figures.step,
            "max_steps": self.max_steps,
            "metric": self.main,
            "last": figures.last,
            "best": {k: {"value": v, "step": step} for k, (v, step) in figures.best.items()},
        }


def scan(root: Path) -> list[Run]:
    """All runs under a folder, begun or only submitted: one of all runs, of an experiment, of a sweep, or of a run.

    Raises FileNotFoundError where there is no such folder.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"no runs in {root}: there is no such folder")
    if _is_run(root):
        return [Run(root)]
    if root.parent.name == "sweeps":
        return [run for run in scan(root.parents[1]) if _of_sweep(run, root.name)]
    folders = _folders(root)
    below = [f for f in folders if not _is_run(f)]
    runs = [Run(f) for f in folders if _is_run(f)]
    runs += [Run(run) for folder in below for run in _folders(folder) if _is_run(run)]
    return sorted(runs)


def ranked(rows: Iterable[Row], metric: str) -> list[Row]:
    """Rows by their best value of a metric (or, of a training metric, the last), those without it at the end."""

    def key(row: Row) -> tuple[bool, float]:
        value, _ = row.figures.best.get(metric, (row.figures.last.get(metric, math.nan), 0))
        return math.isnan(value), value if lower_is_better(metric, row.modes) else -value

    return sorted(rows, key=key)


def _of_sweep(run: Run, id: str) -> bool:
    sweep = Row(run).sweep
    return sweep is not None and sweep.get("id") == id


def _is_run(folder: Path) -> bool:
    run = Run(folder)
    return run.started() or submission_file(run).exists()


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:  # that may not be read is no run of ours
        return []
