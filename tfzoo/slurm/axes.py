"""What varies in a sweep: the axes of a grid, the ranges that are drawn from, and the drawing."""

from __future__ import annotations

import math
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfzoo.slurm.points_file import read_points

_RANGE = re.compile(r"(log|uniform)\((.*)\)")


@dataclass(frozen=True)
class Range:
    """Numbers drawn evenly between two bounds, on a logarithmic scale or a plain one."""

    low: float
    high: float
    logarithmic: bool

    def draw(self, chance: random.Random) -> str:
        if self.logarithmic:
            number = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        else:
            number = chance.uniform(self.low, self.high)
        return repr(float(f"{number:.4g}"))


class Axis:
    """What varies together: the values of one key, or the lines of a file of points.

    Raises ValueError for a text that is no `key=a,b,c`.
    """

    def __init__(self, settings: Sequence[dict[str, str]]) -> None:
        self.settings = settings
        self.keys = {plain(key) for one in settings for key in one}

    def __len__(self) -> int:
        return len(self.settings)


def plain(key: str) -> str:
    """A key without `init_args`, which may be left out: both spellings are one."""
    return ".".join(part for part in key.strip().lstrip("-").split(".") if part != "init_args")


def axes_of(sweeps: Sequence[str], file: str | Path | None) -> tuple[list[Axis], dict[str, Range]]:
    axes = [Axis(read_points(file))] if file is not None else []
    ranges: dict[str, Range] = {}
    known = {key for axis in axes for key in axis.keys}
    for said in sweeps:
        key, equals, text = said.partition("=")
        key = key.strip().lstrip("-")
        values = split(text)
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.+]*", key) or not all(values):
            raise ValueError(f"a sweep is written key=a,b,c, not {said!r}")
        if plain(key) in known:
            raise ValueError(f"{plain(key)} varies twice")
        known.add(plain(key))
        if len(values) == 1 and (found := _RANGE.fullmatch(values[0])):
            ranges[key] = _range(said, *found.groups())
        else:
            axes.append(Axis([{key: _unquoted(value)} for value in values]))
    if not axes and not ranges:
        raise ValueError("a sweep needs --sweep KEY=A,B,C or a file of --points")
    return axes, ranges


def _range(said: str, kind: str, bounds: str) -> Range:
    try:
        low, high = map(float, bounds.split(","))
    except ValueError:
        raise ValueError(f"{said}: a range is written {kind}(LOW,HIGH)") from None
    if not low < high or (kind == "log" and low <= 0):
        least = "above 0 and " if kind == "log" else ""
        raise ValueError(f"{said}: the lower bound must be {least}below the upper one")
    return Range(low, high, kind == "log")


def split(text: str) -> list[str]:
    """The values of `a,b,c`; a comma inside of brackets or quotes divides nothing."""
    values, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "," and not quote and depth == 0:
            values.append("")
        else:
            values[-1] += sign
    return [value.strip() for value in values]


def _unquoted(value: str) -> str:
    """Without quotes around the whole of it, which have done their work."""
    inner = re.fullmatch(r"'([^']*)'|\"([^\"]*)\"", value)
    return value if inner is None else inner[1] or inner[2] or ""


def size_of(axes: Sequence[Axis]) -> int:
    return math.prod(map(len, axes))


def grid_point(axes: Sequence[Axis], place: int) -> dict[str, str]:
    """The point of that number in the grid, whose last axis runs fastest."""
    merged: list[dict[str, str]] = []
    for axis in reversed(axes):
        place, row = divmod(place, len(axis))
        merged.append(axis.settings[row])
    return {key: value for one in reversed(merged) for key, value in one.items()}


def drawn_from(
    axes: Sequence[Axis], ranges: Mapping[str, Range], count: int, chance: random.Random
) -> Iterator[dict[str, str]]:
    """Points of the grid in random order, each again only when all have been; ranges are drawn from each time."""
    size = size_of(axes)
    if count < 1:
        raise ValueError(f"--sample must be at least 1, not {count}")
    if not ranges and count > size:
        raise ValueError(f"--sample {count} asks for more points than the {size} that there are")
    places: list[int] = []
    while len(places) < count:
        places += _different(size, min(size, count - len(places)), chance)
    seen: set[str] = set()
    for place in places:
        point = grid_point(axes, place)
        for _ in range(100):  # four digits may come again
            drawn = {key: range_.draw(chance) for key, range_ in ranges.items()}
            if (mark := f"{place} {drawn}") not in seen:
                break
        seen.add(mark)
        yield point | drawn


def _different(size: int, count: int, chance: random.Random) -> list[int]:
    """So many numbers below `size`, none twice, in random order."""
    if size <= sys.maxsize:
        return chance.sample(range(size), count)
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[chance.randrange(size)] = None
    return list(drawn)
