"""Sweeps: the points of a grid, of a random sample, or of a file, each with a name made of what varies."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tfzoo.slurm.axes import axes_of, drawn_from, grid_point, plain, size_of
from tfzoo.slurm.points_file import as_json

MOST = 1000
"""Points of a sweep; SLURM's own bound for the tasks of an array is 1001 by default."""
LONGEST = 100
"""Bytes of the name of a run's folder: a file system takes 255, W&B 128 for this and the experiment's name."""


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
    axes, ranges = axes_of(sweeps, file)
    if ranges and sample is None:
        raise ValueError(f"{next(iter(ranges))} is a range to draw from: say how often, --sample N")
    size = size_of(axes) if sample is None else sample
    if size > MOST:
        raise ValueError(f"{size:,} points are too many for a job: draw up to {MOST:,}, --sample N")
    if sample is None:
        settings = [grid_point(axes, place) for place in range(size_of(axes))]
    else:
        settings = list(drawn_from(axes, ranges, sample, random.Random(seed)))
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
    for point in found:
        said = [
            f"{short[k]}={_safe(_written(point.values[k]))}" for k in varying if k in point.values
        ]
        name = f"{sweep}-{','.join(said)}"
        if len(name.encode()) > LONGEST or name in given:
            digest = hashlib.sha256(json.dumps(point.values).encode()).hexdigest()[:8]
            name = f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{digest}"
        given[name] = None
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


def value_of(text: str) -> Any:
    """The value that a text stands for in a config, where 1e-3 is a number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    try:
        value = yaml.safe_load(text) if text else text
    except (ValueError, yaml.YAMLError):
        return text
    # YAML sees dates, and numbers in 12:30; nobody else does.
    return text if type(value) in (int, float) else as_json(value)


def told(values: Mapping[str, Any]) -> str:
    """The values of a point in a line."""
    return ", ".join(f"{key}={_written(value)}" for key, value in values.items()) or "of nothing"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _safe(text: str) -> str:
    """As a part of a folder's name."""
    return re.sub(r"-{2,}", "-", re.sub(r"[^\w.+=,@-]+", "-", text)).strip("-")
