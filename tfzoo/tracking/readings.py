"""What metrics.csv says, be its run going on or killed: last and best figures, and curves, read fast."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

_LOWER = re.compile(
    r"loss|perplexity|bits|error|seconds|memory|(?<![a-z])(norm|wer|cer|ter|nll|r?mse|mae)(?![a-z])",
    re.I,
)

Curve = list[tuple[int, float]]
"""Values of a metric, each after how many steps, in the order of their rows."""


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
        columns, rows = _read(path)
        last = _last(columns, rows)
        step = last.pop("step", None)
        return cls(None if step is None else _done(step), last, _best(columns, rows, modes or {}))


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Of each row the number that it has, that of the step which it ends, from 0, and what it says.

    Cells that are no numbers are left out, as are rows that have no number.
    """
    columns, lines = _read(path)
    at = columns.index("step") if columns else 0
    for line in lines:
        cells = line.split(b",")
        step = _number(cells[at]) if at < len(cells) else math.nan
        if 0 <= step < math.inf:
            named = zip(columns, cells, strict=False)
            values = {name: _cell(cell) for name, cell in named if cell and name != "step"}
            yield int(step), {name: value for name, value in values.items() if value is not None}


def read_curves(
    path: Path, metrics: Collection[str] | None = None, gaps: bool = False
) -> dict[str, Curve]:
    """Those metrics of a file, or all; empty where there is no file.

    gaps: keep what is no finite number, at which a line that is drawn breaks off.
    """
    found: dict[str, Curve] = {}
    for step, values in read_rows(path):
        for metric, value in values.items():
            if (metrics is None or metric in metrics) and (gaps or math.isfinite(value)):
                found.setdefault(metric, []).append((step + 1, value))
    return found


def thinned(curve: Curve, most: int) -> Curve:
    """A curve of no more points than that, each the mean of its neighbours."""
    if len(curve) <= most:
        return curve
    bounds = [len(curve) * place // most for place in range(most + 1)]
    parts = [curve[start:end] for start, end in pairwise(bounds)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _read(path: Path) -> tuple[list[str], list[bytes]]:
    """The header, and the rows without one that was cut short; nothing where there is no such file."""
    try:
        content = path.read_bytes()
    except OSError:
        return [], []
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    columns = next(csv.reader([lines[0].decode("utf-8", "replace")]), []) if lines else []
    return (columns, lines[1:]) if "step" in columns else ([], [])


def _done(step: float) -> int:
    """Rows are numbered by the step that they end, from 0."""
    return int(step) + 1 if math.isfinite(step) else 0


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
    # Most rows are of training, and blank there.
    first, ends = measured[0], measured[-1] == len(columns) - 1
    together = len(measured) == measured[-1] - first + 1
    blank = b"," * (len(measured) - ends) if together else None
    step = columns.index("step")
    lower = {columns[i]: lower_is_better(columns[i], modes) for i in measured}
    best: dict[str, tuple[float, int]] = {}
    for row in rows:
        if blank is not None:
            rest = row.split(b",", first)[-1]
            if rest == blank if ends else rest.startswith(blank):
                continue
        cells = row.split(b",")
        for place in measured:
            if place < len(cells) and cells[place]:
                name, value = columns[place], _number(cells[place])
                if name not in best or _better(value, best[name][0], lower[name]):
                    best[name] = (value, _done(_number(cells[step])))
    return best


def _number(cell: bytes) -> float:
    value = _cell(cell)
    return math.nan if value is None else value


def _cell(cell: bytes) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def lower_is_better(metric: str, modes: Mapping[str, str] | None = None) -> bool:
    """By what is said of it, "min" or "max", else by its name."""
    said = (modes or {}).get(metric)
    return said == "min" if said else bool(_LOWER.search(metric))


def _better(value: float, than: float, lower: bool) -> bool:
    if math.isnan(than) or math.isnan(value):
        return math.isnan(than) and not math.isnan(value)
    return value < than if lower else value > than
