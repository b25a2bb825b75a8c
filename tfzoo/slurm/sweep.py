"""Sweeps: the points of a grid, of a random sample, or of a file, each with a name made of what varies."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MOST = 1000
"""Points of a sweep; SLURM's own bound for the tasks of an array is 1001 by default."""
LONGEST = 160
"""Characters of the name of a run's folder; a file system takes 255 bytes."""
_RANGE = re.compile(r"(log|uniform)\((.*)\)")


@dataclass(frozen=True)
class Point:
    """One training of a sweep.

    values: of the keys that vary, as they are written in a config; flags: the same for `tfzoo fit`.
    """

    values: dict[str, Any]
    flags: tuple[str, ...]

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Point:
        flags = tuple(f"--{key}={text}" for key, text in settings.items())
        return cls({plain(key): value_of(text) for key, text in settings.items()}, flags)


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


def points(
    sweeps: Sequence[str] = (),
    file: str | Path | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> list[Point]:
    """All points of a sweep, none twice.

    sweeps: `key=a,b,c` of a grid, or `key=log(1e-4,1e-2)` and `key=uniform(0,0.3)`, which are drawn from; file: of
    points, with which the grid is multiplied; sample: how many to draw, None for all; seed: of the drawing.
    Raises ValueError in a sentence for whatever is no sweep.
    """
    axes, ranges = _axes(sweeps, file)
    if ranges and sample is None:
        raise ValueError(f"{next(iter(ranges))} is a range to draw from: say how often, --sample N")
    size = _size(axes) if sample is None else sample
    if size > MOST:
        raise ValueError(f"{size:,} points are too many for a job: draw up to {MOST:,}, --sample N")
    if sample is None:
        settings = [_merged(axes, place) for place in range(_size(axes))]
    else:
        settings = list(_drawn(axes, ranges, sample, random.Random(seed)))
    found = [Point.of(one) for one in settings]
    seen: dict[str, Point] = {}
    for point in found:
        key = json.dumps(point.values, sort_keys=True)
        if key in seen:
            raise ValueError(f"the point {told(point.values)} is there twice")
        seen[key] = point
    return found


def names(found: Sequence[Point], sweep: str) -> list[str]:
    """A folder's name for each point, by the shortest endings of the keys that vary and are no other's."""
    keys = list(dict.fromkeys(key for point in found for key in point.values))
    varying = [k for k in keys if len({json.dumps(p.values.get(k)) for p in found}) > 1] or keys
    short = endings(varying)
    given: dict[str, None] = {}
    for number, point in enumerate(found):
        said = [
            f"{short[k]}={_safe(_written(point.values[k]))}" for k in varying if k in point.values
        ]
        name = f"{sweep}-{','.join(said)}"
        if len(name) > LONGEST:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = f"{name[: LONGEST - 9]}-{digest}"
        given[name if name not in given else f"{name}.{number}"] = None
    return list(given)


def endings(keys: Sequence[str]) -> dict[str, str]:
    """Of each key the shortest ending at a dot that no other key has."""
    short = {}
    for key in keys:
        parts = key.split(".")
        for length in range(1, len(parts) + 1):
            ending = ".".join(parts[-length:])
            others = (other for other in keys if other != key)
            if not any(other == ending or other.endswith(f".{ending}") for other in others):
                break
        short[key] = ending
    return short


def plain(key: str) -> str:
    """A key without `init_args`, which may be left out: both spellings are one."""
    return ".".join(part for part in key.strip().lstrip("-").split(".") if part != "init_args")


def value_of(text: str) -> Any:
    """The value that a text stands for in a config, where 1e-3 is a number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def text_of(value: Any) -> str:
    """A value of a file of points as it is written after `--key=`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def told(values: Mapping[str, Any]) -> str:
    """The values of a point in a line."""
    return ", ".join(f"{key}={_written(value)}" for key, value in values.items()) or "of nothing"


def read_points(path: str | Path) -> list[dict[str, str]]:
    """The lines of a file: csv with a header of keys, json lines, or a list of mappings in yaml or json.

    Raises FileNotFoundError, or ValueError naming the file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of points {path}")
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".csv":
            rows: Any = list(csv.DictReader(text.splitlines(), restval="", strict=True))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        elif file.suffix in (".yaml", ".yml", ".json"):
            rows = yaml.safe_load(text)
        else:
            raise ValueError("it must be .csv, .jsonl, .json or .yaml")
        return [_row(row) for row in _list(rows)]
    except (ValueError, csv.Error, yaml.YAMLError) as error:
        raise ValueError(f"file of points {path}: {error}") from None


def _list(rows: Any) -> list[Any]:
    if not isinstance(rows, list) or not rows:
        raise ValueError("it must be a list of mappings, as `- {seed_everything: 1}`")
    return rows


def _row(row: Any) -> dict[str, str]:
    if not isinstance(row, dict) or not row:
        raise ValueError(f"{row!r} is no mapping of keys to values")
    if None in row:
        raise ValueError(f"{row[None]} stands under no key of the header")
    # An empty cell of a csv says nothing.
    return {str(key).strip(): text_of(value) for key, value in row.items() if value != ""}


def _axes(sweeps: Sequence[str], file: str | Path | None) -> tuple[list[Axis], dict[str, Range]]:
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
            axes.append(Axis([{key: value} for value in values]))
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


def _size(axes: Sequence[Axis]) -> int:
    return math.prod(map(len, axes))


def _merged(axes: Sequence[Axis], place: int) -> dict[str, str]:
    """The point of that number in the grid, whose last axis runs fastest."""
    merged: list[dict[str, str]] = []
    for axis in reversed(axes):
        place, row = divmod(place, len(axis))
        merged.append(axis.settings[row])
    return {key: value for one in reversed(merged) for key, value in one.items()}


def _drawn(
    axes: Sequence[Axis], ranges: Mapping[str, Range], count: int, chance: random.Random
) -> Iterator[dict[str, str]]:
    """Points of the grid in random order, each again only when all have been; ranges are drawn from each time."""
    size = _size(axes)
    if count < 1:
        raise ValueError(f"--sample must be at least 1, not {count}")
    if not ranges and count > size:
        raise ValueError(f"--sample {count} asks for more points than the {size} that there are")
    places: list[int] = []
    while len(places) < count:
        places += _different(size, min(size, count - len(places)), chance)
    seen: set[str] = set()
    for place in places:
        point = _merged(axes, place)
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


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _safe(text: str) -> str:
    """As a part of a folder's name."""
    return re.sub(r"-{2,}", "-", re.sub(r"[^\w.+=,@-]+", "-", text)).strip("-")
