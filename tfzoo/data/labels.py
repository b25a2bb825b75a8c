"""Class names, and the number of each row's class."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from tfzoo.data.broken import Flaws


def missing_labels(rows: Dataset, column: str) -> dict[int, str]:
    """Rows without a label, or with a number that is no class."""
    found: dict[int, str] = {}
    for place, value in enumerate(_values(rows, column)):
        if value is None:
            found[place] = f"has no label in column {column!r}"
        elif isinstance(value, float):
            found[place] = f"has {value} in column {column!r}, where a class is wanted"
    return found


def class_names(rows: Dataset, column: str) -> tuple[str, ...]:
    """The class names of a column of labels, none missing: those declared, else the distinct values, sorted.

    Raises ValueError if there are fewer than two classes.
    """
    feature = rows.features[column]
    if isinstance(feature, ClassLabel):
        names = tuple(feature.names)
    else:
        names = tuple(map(str, sorted(set(_values(rows, column)))))
    if len(names) < 2:
        raise ValueError(
            f"column {column!r} holds {len(names)} class, and a classifier needs two or more"
        )
    return names


def unknown_labels(rows: Dataset, column: str, names: tuple[str, ...]) -> Flaws:
    """Rows whose label training does not know."""
    known = _known(rows, column, names)
    found: dict[int, str] = {}
    for place, value in enumerate(_values(rows, column)):
        if value not in known:
            hidden = " (a hidden label: choose another split)" if value == -1 else ""
            found[place] = f"has the label {value!r}, which training has not{hidden}"
    return found


def class_numbers(rows: Dataset, column: str, names: tuple[str, ...]) -> np.ndarray:
    """(N,) the place of each row's label, all of them known, among the class names."""
    known = _known(rows, column, names)
    return np.array([known[value] for value in _values(rows, column)], np.int64)


def _known(rows: Dataset, column: str, names: tuple[str, ...]) -> dict[Any, int]:
    """What a column may hold, and the place of each among the class names."""
    feature = rows.features[column]
    if isinstance(feature, ClassLabel):
        return {k: names.index(name) for k, name in enumerate(feature.names) if name in names}
    return {v: names.index(str(v)) for v in set(_values(rows, column)) if str(v) in names}


def _values(rows: Dataset, column: str) -> list[Any]:
    """The labels, None for a missing one. Where some of a table are, whole numbers are read as floating point."""
    # The column alone: the others may be images, more than memory holds.
    values = rows.select_columns([column])[:][column]
    if not str(getattr(rows.features[column], "dtype", "")).startswith("float"):
        return values
    return [None if v is None or v != v else int(v) if float(v).is_integer() else v for v in values]
