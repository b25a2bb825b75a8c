"""Runs as rows of a table, each read only as far as it is asked."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from tfzoo.tracking.readings import Figures, lower_is_better
from tfzoo.tracking.runs import Run, folders
from tfzoo.tracking.settings import setting
from tfzoo.tracking.state import Circumstances, Job, State
from tfzoo.tracking.submitted import seconds, submission_file

FIRST = ("val/accuracy", "val/chrf", "val/loss")
"""The metric to rank runs by, where a run does not say which."""


class Row:
    """A run, with what is read of it when it is asked for."""

    def __init__(self, run: Run, queue: Mapping[str, Job] | None = None) -> None:
        self.run = run
        self.queue: Mapping[str, Job] = queue or {}
        self.circumstances = Circumstances(run)
        self._settings: dict[str, Any] = {}

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

    @property
    def started(self) -> str | None:
        """When it was first trained, ISO 8601."""
        entries = self.circumstances.entries
        return entries[0].get("started") if entries else None

    @property
    def seconds(self) -> float | None:
        """Of wall time, from start to end of all its lives; of one that was killed, up to its last sign."""
        entries = self.circumstances.entries
        spent = 0.0
        for place, entry in enumerate(entries):
            goes = place == len(entries) - 1 and self.state.word == "running"
            signs = [_time(entry, "pace"), _time(entry, "ended"), time.time() if goes else 0.0]
            spent += max(0.0, max(signs) - self.circumstances.time_of(entry))
        return round(spent, 3) if entries else None

    @property
    def parameters(self) -> int | None:
        entries = self.circumstances.entries
        found = entries[-1].get("parameters") if entries else None
        return found if isinstance(found, int) else None

    @property
    def throughput(self) -> tuple[float, str] | None:
        """How much was trained on in a second of the newest life that tells, and of what: tokens, texts, images."""
        for entry in reversed(self.circumstances.entries):
            pace = entry.get("pace")
            with suppress(TypeError, KeyError, ValueError, ZeroDivisionError):
                return float(pace["count"]) / float(pace["seconds"]), str(pace["counted"])
        return None

    @property
    def commit(self) -> str | None:
        """Of the newest life, in short; with a + where the files differed from it."""
        entries = self.circumstances.entries
        git = entries[-1].get("git") if entries else None
        if not isinstance(git, dict) or not git.get("commit"):
            return None
        return str(git["commit"])[:8] + ("+" if git.get("changed") else "")

    def setting(self, key: str) -> Any:
        """Of its config by a dotted key; ABSENT where it has none."""
        if key not in self._settings:
            self._settings[key] = setting(self.run, key)
        return self._settings[key]

    def to_dict(self) -> dict[str, Any]:
        figures, through = self.figures, self.throughput
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
            "parameters": self.parameters,
            "throughput": through and {"value": through[0], "unit": f"{through[1]}/s"},
            "seconds": self.seconds,
            "commit": self.commit,
            "started": self.started,
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
    runs: list[Path] = []
    for folder in folders(root):
        runs += [folder] if _is_run(folder) else filter(_is_run, folders(folder))
    return sorted(map(Run, runs))


def ranked(rows: Iterable[Row], metric: str) -> list[Row]:
    """Rows by their best value of a metric (or, of a training metric, the last), those without it at the end."""

    def key(row: Row) -> tuple[bool, float]:
        value, _ = row.figures.best.get(metric, (row.figures.last.get(metric, math.nan), 0))
        return math.isnan(value), value if lower_is_better(metric, row.modes) else -value

    return sorted(rows, key=key)


def _time(entry: Mapping[str, Any], sign: str) -> float:
    told = entry.get(sign)
    return seconds(told.get("time")) if isinstance(told, dict) else 0.0


def _of_sweep(run: Run, id: str) -> bool:
    sweep = Row(run).sweep
    return sweep is not None and sweep.get("id") == id


def _is_run(folder: Path) -> bool:
    run = Run(folder)
    try:
        return run.started() or submission_file(run).exists()
    except OSError:  # that may not be read is no run of ours
        return False
