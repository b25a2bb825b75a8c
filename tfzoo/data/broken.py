"""Samples that cannot be used: found once before training, then refused or left out of every split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from lightning.pytorch.utilities import rank_zero_info

Flaws: TypeAlias = Mapping[int, str]
"""Places of rows, and of each what is wrong with it, as the end of a sentence that begins with the row."""

REPLACED = "\ufffd"
"""What stands in a text where its bytes were no UTF-8."""


class NothingLeftError(ValueError):
    """All rows are broken."""


class Sieve:
    """Takes broken rows out of splits, or refuses the first.

    skip: whether to leave them out; begin: the number of the first row, where rows are a part of a split.
    parts: of a split that was held out of another, the other's name and the numbers of its rows there, by which whoever
        mends the file finds them.
    """

    def __init__(self, skip: bool, begin: int = 0) -> None:
        self.skip, self.begin = skip, begin
        self.parts: Mapping[str, tuple[str, np.ndarray]] = {}
        self.left_out: dict[str, list[str]] = {}  # of each split, a sentence a row
        self._numbers: dict[str, np.ndarray] = {}

    def __call__(self, rows: Dataset, flaws: Flaws, split: str) -> Dataset:
        """The rows less those with a flaw.

        Raises ValueError naming the first of them, with skip only where no row is left.
        """
        if not flaws:
            return rows
        whole, numbers = self.origin(split, len(rows))
        of = f" of {whole}" if whole != split else ""
        told = [f"row {numbers[k]} (from 0){of} {flaws[k]}" for k in sorted(flaws)]
        if not self.skip:
            first = min(flaws)
            raise ValueError(
                f"row {numbers[first]} (from 0) of the {whole} split {flaws[first]}; "
                "data.skip_broken true leaves such rows out"
            )
        self.left_out.setdefault(split, []).extend(told)
        kept = np.delete(np.arange(len(rows)), sorted(flaws))
        self._numbers[split] = numbers[kept]
        if not len(kept):
            raise NothingLeftError(f"nothing is left of the {split} split: {self._told(split)}")
        return rows.select(kept)

    def origin(self, split: str, rows: int) -> tuple[str, np.ndarray]:
        """Of the rows that are left of a split, so many, the split that they were read in and their numbers there."""
        whole, numbers = self.parts.get(split, (split, np.arange(rows) + self.begin))
        return whole, self._numbers.get(split, numbers)

    def tell(self, streaming: bool = False) -> None:
        """A line for each split of which something was left out."""
        rest = "; the rest of the stream is sifted as it is read" if streaming else ""
        for split in self.left_out:
            rank_zero_info(f"Of the {split} split, {self._told(split)}{rest}.")

    def tell_growth(self, split: str, before: int) -> int:
        """The rows of a split left out here and before; told whenever they have doubled."""
        sentences = self.left_out.get(split, [])
        total = before + len(sentences)
        if total.bit_length() > before.bit_length():
            rank_zero_info(f"Of the {split} split, {total} rows are left out, now {sentences[0]}.")
        return total

    def _told(self, split: str) -> str:
        sentences = self.left_out[split]
        total = len(sentences) + len(self._numbers[split])
        return f"{len(sentences)} of {total} rows are broken and left out, such as {sentences[0]}"


def missing_texts(rows: Dataset, columns: Iterable[str], blank: bool = False) -> Flaws:
    """Rows without a text in one of the columns; blank: whether white space alone may stand there."""
    found: dict[int, str] = {}
    names = list(columns)
    for begin, table in _tables(rows, names):
        for name in names:
            texts = table[name]
            flaws = [("has no text", pc.is_null(texts))]
            if not blank:
                white = pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0))
                flaws.append(("has an empty text", white))
            for what, wrong in flaws:
                for place in _places(wrong):
                    beside = _beside(table, place, name)
                    found.setdefault(begin + place, f"{what} in column {name!r}{beside}")
    return found


def replaced_texts(rows: Dataset) -> Flaws:
    """Rows with bytes that were no UTF-8, in any column of text."""
    names = [n for n, f in rows.features.items() if getattr(f, "dtype", "").endswith("string")]
    found: dict[int, str] = {}
    for begin, table in _tables(rows, names):
        for name in names:
            for place in _places(pc.match_substring(table[name], REPLACED)):
                text = _short(table[name][place].as_py())
                found[begin + place] = f"is not UTF-8 in column {name!r} ({text})"
    return found


def missing_numbers(rows: Dataset, column: str) -> Flaws:
    """Rows without a finite number in a column of numbers."""
    found: dict[int, str] = {}
    for begin, table in _tables(rows, [column]):
        for place, value in enumerate(table[column].to_pylist()):
            if value is None or not math.isfinite(value):
                found[begin + place] = f"has no number in column {column!r}"
    return found


def _tables(rows: Dataset, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """The columns, some thousand rows at a time, and the place of the first."""
    size = 10_000
    chosen = rows.select_columns(columns).with_format("arrow")
    for number, table in enumerate(chosen.iter(size) if columns else ()):
        yield number * size, table


def _places(wrong: Any) -> list[int]:
    return np.flatnonzero(pc.fill_null(wrong, False).to_numpy()).tolist()


def _beside(table: pa.Table, place: int, column: str) -> str:
    """What the row says elsewhere, to find it by."""
    others = (table[name][place].as_py() for name in table.column_names if name != column)
    text = next((other for other in others if other), None)
    return f" (beside {_short(text)})" if text else ""


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else f"{text[:most]}...")
