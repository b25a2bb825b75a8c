"""Which runs are meant: `state=killed`, `val/loss<2`, `model.backbone.depth=4,8`.

A filter is a column, a comparison (= != < <= > >=) and what it is compared with. = and != take several values with
commas between them, and in texts * and ? as a shell does. Numbers may be written 1e6, 2M or 10k, and times 1:30:00.
What a run has no value of is != to everything, and nothing else.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tfzoo.cli.columns import Column, column
from tfzoo.slurm.axes import split
from tfzoo.tracking.state import STATES
from tfzoo.tracking.table import Row

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Filter:
    """A comparison of what runs have in a column.

    said: as it was written; asked: behind the comparison.
    """

    said: str
    column: Column
    comparison: str
    asked: str

    @classmethod
    def read(cls, said: str, rows: Sequence[Row]) -> Filter:
        """Raises ValueError where it is none, or speaks of what these runs have not."""
        found = re.fullmatch(r"\s*([^<>=!\s]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*", said)
        if not found or not found[3]:
            raise ValueError(
                f"a filter is written COLUMN=VALUE, or with one of != < <= > >=, not {said!r}"
            )
        known = column(found[1], rows)
        if found[2] in _ORDER and known.name != "started" and amount(found[3]) is None:
            raise ValueError(f"{said}: {found[2]} compares with a number, not {found[3]!r}")
        if known.name == "state":
            for word in split(found[3]):
                if not any(fnmatchcase(one, word) for one in STATES):
                    raise ValueError(
                        f"{said}: a run's state is one of {', '.join(STATES)}, not {word!r}"
                    )
        return cls(said, known, found[2], found[3])

    def holds(self, row: Row) -> bool:
        value = self.column.value(row)
        if self.comparison in _ORDER:
            bound: Any = self.asked if isinstance(value, str) else amount(self.asked)
            comparable = value is not None and not isinstance(value, bool | list | dict)
            if isinstance(value, str) and self.column.name != "started":
                comparable = False
            return comparable and _ORDER[self.comparison](value, bound)
        is_one = value is not None and any(
            _is(value, asked, row, self.column.name)
            for asked in (self.asked, *split(self.asked))  # names of a sweep's points hold commas
        )
        return is_one == (self.comparison == "=")


def chosen(rows: Sequence[Row], said: Sequence[str]) -> list[Row]:
    """Those that all filters hold of; the configs are read last, and only of those that are left."""
    filters = [Filter.read(one, rows) for one in said] if rows else []
    kept = list(rows)
    for one in sorted(filters, key=lambda one: one.column.is_setting):
        kept = [row for row in kept if one.holds(row)]
    return kept


def amount(text: str) -> float | None:
    """The number that a text says; None where it says none."""
    if re.fullmatch(r"(\d+:)?\d+:\d\d", text):
        *hours, minutes, seconds = map(int, text.split(":"))
        return 3600.0 * sum(hours) + 60 * minutes + seconds
    size = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:], 1.0)
    try:
        return float(text if size == 1 else text[:-1]) * size
    except ValueError:
        return None


def _is(value: Any, asked: str, row: Row, name: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = amount(asked)
        return number is not None and value == number
    if name == "run" and "/" in asked:
        value = f"{row.run.experiment}/{value}"
    return fnmatchcase(value if isinstance(value, str) else json.dumps(value), asked)
