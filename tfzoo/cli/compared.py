"""What a comparison of runs holds, be it told in the terminal or on a page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase
from typing import Any

from tfzoo.cli.columns import KNOWN
from tfzoo.cli.complaints import nearest
from tfzoo.tracking.differences import Difference, circumstances, differences
from tfzoo.tracking.readings import Curve, lower_is_better, read_curves
from tfzoo.tracking.settings import ABSENT, settings
from tfzoo.tracking.table import Row

MEASURED = ("val/", "test/", "train/")
MARK = "*"


@dataclass(frozen=True)
class Line:
    """A line of the table of figures: what each run has, as text, and which of them have the best."""

    name: str
    cells: list[str]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    metric: str
    curves: list[Curve]
    lower: bool


class Compared:
    """Runs side by side, each with a letter.

    Raises ValueError where a metric is asked for that none of them has.
    """

    def __init__(self, rows: Sequence[Row], metrics: Sequence[str] = ()) -> None:
        self.rows = list(rows)
        self.letters = [_letter(place) for place in range(len(rows))]
        self.curves = [read_curves(row.run.metrics_file) for row in rows]
        every = {name for one in self.curves for name in one}
        for name in metrics:
            if name not in every:
                raise ValueError(f"none of these runs has a metric {name!r}{nearest(name, every)}")
        self.asked = list(metrics)

    @cached_property
    def names(self) -> list[str]:
        """EXPERIMENT/ID; with the folder above where two would read the same."""
        short = [f"{row.run.experiment}/{row.run.id}" for row in self.rows]
        if len(set(short)) == len(short):
            return short
        return [str(row.run.folder) for row in self.rows]

    @cached_property
    def tasks(self) -> list[str]:
        """Each kind once."""
        found = [row.setting("model") for row in self.rows]
        return list(dict.fromkeys(str(task) for task in found if task is not ABSENT))

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know before anything else."""
        told = []
        if len(self.tasks) > 1:
            told.append(
                f"different tasks ({', '.join(self.tasks)}): only what they share is compared, and their losses are of "
                "different things"
            )
        for letter, config, found in zip(self.letters, self.configs, self.curves, strict=True):
            if config is None:
                told.append(f"{letter} has no config that can be read")
            if not found:
                told.append(f"{letter} has no metrics yet")
        return told

    @cached_property
    def configs(self) -> list[dict[str, Any] | None]:
        return [settings(row.run) for row in self.rows]

    @cached_property
    def differences(self) -> list[Difference]:
        return differences(self.configs, shared=len(self.tasks) > 1)

    @cached_property
    def circumstances(self) -> list[Difference]:
        """Commit, versions, devices and data, as each run last began with them."""
        entries = [row.circumstances.entries for row in self.rows]
        return differences([circumstances(one[-1]) if one else None for one in entries])

    @cached_property
    def charts(self) -> list[Chart]:
        mains = [row.main for row in self.rows if row.main]
        usual = ["val/loss"] if len(self.tasks) > 1 else mains
        chosen = self.asked or [*usual, "train/loss"]
        drawn = []
        for metric in dict.fromkeys(chosen):
            found = [one.get(metric, []) for one in self.curves]
            if any(found):
                drawn.append(Chart(metric, found, self._lower(metric)))
        return drawn

    @cached_property
    def lines(self) -> list[Line]:
        """States, metrics with the best marked, and what the runs took."""
        told = [self._plain(name) for name in ("state", "step")]
        measured = [_measured(row) for row in self.rows]
        names = {name for one in self.curves for name in one}
        names |= {name for one in measured for name in one}
        for metric in sorted((n for n in names if n.startswith(MEASURED)), key=_place):
            bests = [row.figures.best.get(metric) for row in self.rows]
            lasts = [
                one.get(metric, row.figures.last.get(metric))
                for one, row in zip(measured, self.rows, strict=True)
            ]
            if len(self.tasks) > 1 and None in lasts:
                continue
            if any(bests):
                cells = [f"{one[0]:.4g} at {one[1]}" if one else "-" for one in bests]
                found = self._marked(metric, [one and one[0] for one in bests])
                told.append(Line(f"best {metric}", cells, found))
                if lasts == [one and one[0] for one in bests]:
                    continue  # they stand there already
            cells = ["-" if one is None else f"{one:.4g}" for one in lasts]
            name = f"last {metric}" if any(bests) else metric
            told.append(Line(name, cells, self._marked(metric, lasts)))
        return told + [self._plain(name) for name in ("parameters", "speed", "time")]

    def _plain(self, name: str) -> Line:
        return Line(name, [KNOWN[name].told(row).plain for row in self.rows])

    def _lower(self, metric: str) -> bool:
        modes = {name: mode for row in self.rows for name, mode in row.modes.items()}
        return lower_is_better(metric, modes)

    def _marked(self, metric: str, values: Sequence[float | None]) -> frozenset[int]:
        """Where the best of them stands; nowhere if they are all the same, or of different tasks."""
        finite = [v for v in values if v is not None and math.isfinite(v)]
        if len(set(finite)) < 2 or len(self.tasks) > 1:
            return frozenset()
        best = min(finite) if self._lower(metric) else max(finite)
        return frozenset(place for place, value in enumerate(values) if value == best)


def said(value: Any) -> str:
    """A setting as a cell."""
    if value is ABSENT:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _measured(row: Row) -> dict[str, float]:
    """What `tfzoo test` left in its folder, if it did and is done with it."""
    try:
        told = json.loads((row.run.folder / "test.json").read_bytes())
        return {str(key): float(value) for key, value in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _place(metric: str) -> tuple[int, bool, str]:
    """Validation, then test, then training; of each the loss first."""
    stage = next(place for place, start in enumerate(MEASURED) if metric.startswith(start))
    return stage, not metric.endswith("/loss"), metric


def _letter(place: int) -> str:
    more, last = divmod(place, 26)
    return (_letter(more - 1) if more else "") + ascii_uppercase[last]
