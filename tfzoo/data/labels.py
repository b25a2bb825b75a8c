"""Class names, and the number of each row's class."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset


def class_names(rows: Dataset, column: str) -> tuple[str, ...]:
    """The class names of a column of labels: those declared, else the distinct values, sorted.

    Raises ValueError if a label is missing or there are fewer than two classes.
    """
    feature = rows.features[column]
    if isinstance(feature, ClassLabel):
        names = tuple(feature.names)
    else:
        values = set(_values(rows, column))
        if None in values:
            raise ValueError(f"a row of the train split has no label in column {column!r}")
        names = tuple(map(str, sorted(values)))
    if len(names) < 2:
        raise ValueError(
            f"column {column!r} holds {len(names)} class, and a classifier needs two or more"
        )
    return names


def class_numbers(rows: Dataset, column: str, names: tuple[str, ...], split: str) -> np.ndarray:
    """(N,) the place of each row's label among the class names.

    Raises ValueError naming the first label that training does not know, and its split.
    """
    values: list[Any] = _values(rows, column)
    if isinstance(rows.features[column], ClassLabel):
        known: dict[Any, int] = {number: number for number in range(len(names))}
        if tuple(rows.features[column].names) != names:
            known = {
                k: names.index(n) for k, n in enumerate(rows.features[column].names) if n in names
            }
    else:
        known = {name: number for number, name in enumerate(names)}
        values = [None if value is None else str(value) for value in values]
    for value in values:
        if value not in known:
            hidden = " (a hidden label: choose another split)" if value == -1 else ""
            raise ValueError(
                f"the {split} split has the label {value!r}, which training has not{hidden}"
            )
    return np.array([known[value] for value in values], np.int64)


def _values(rows: Dataset, column: str) -> list[Any]:
    # The column alone: the others may be images, more than memory holds.
    return rows.select_columns([column])[:][column]
