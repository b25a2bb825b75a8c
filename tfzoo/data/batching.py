"""Batches: sequences laid into rows, padded or packed, each with its layout.

Letters: B rows, T (or S) tokens a row, N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, dataclass_transform

import numpy as np
import torch
from torch import Tensor

from tfzoo.layout import Layout

IGNORE = -100


@dataclass_transform(frozen_default=True)
class Batch:
    """The base of every batch: named fields that move together.

    A subclass lists its fields as annotations. It is no dataclass in earnest, since Lightning's
    half and FSDP precisions rebuild every dataclass of a batch field by field and refuse frozen
    ones (as Layout is).
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        names = list(type(self).__annotations__)
        fields = dict(zip(names, values, strict=False)) | named
        if len(values) + len(named) != len(names) or set(fields) != set(names):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(names)}")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The batch with every tensor, layout and nested batch moved."""
        return self._each("to", *args, **kwargs)

    def pin_memory(self) -> Self:
        """The batch with every tensor, layout and nested batch in page-locked memory."""
        return self._each("pin_memory")

    def _each(self, method: str, *args: Any, **kwargs: Any) -> Self:
        movable = (Tensor, Layout, Batch)
        return type(self)(
            **{
                name: getattr(value, method)(*args, **kwargs)
                if isinstance(value, movable)
                else value
                for name, value in self.__dict__.items()
            }
        )


class TranslationBatch(Batch):
    """Pairs of sentences.

    source: (B, S) long, each sentence ending in <eos>; target: (B, T) long, <bos> y1 y2 ...;
    labels: (B, T) long, y1 y2 ... <eos>, IGNORE on padding; the texts in the order of rows, then of
        segments.
    """

    source: Tensor
    source_layout: Layout
    target: Tensor
    target_layout: Layout
    labels: Tensor
    source_text: list[str]
    target_text: list[str]


class TextBatch(Batch):
    """Labelled texts, one or (packed) several to a row.

    tokens: (B, T) long, each text beginning with <cls>; first: (N,) long, where each text's <cls>
        is in the flattened
    (B*T) tokens; labels: (N,) long.
    """

    tokens: Tensor
    layout: Layout
    first: Tensor
    labels: Tensor
    text: list[str]


class ImageBatch(Batch):
    """Labelled images. images: (B, C, H, W) float32, normalised; labels: (B,) long."""

    images: Tensor
    labels: Tensor


class LanguageBatch(Batch):
    """Windows of running text.

    tokens: (B, T) long; labels: (B, T) long, the next token, IGNORE where there is none.
    """

    tokens: Tensor
    layout: Layout
    labels: Tensor


Rows = Sequence[Sequence[Sequence[int] | np.ndarray]]


def lay(rows: Rows, fill: int) -> tuple[Tensor, Layout]:
    """Lay sequences into rows, one after the other, and fill the rest.

    rows: B rows of sequences of ids. Returns tokens (B, T) long, T the longest row, and their
        layout, in which each
    sequence is a segment of its row.
    """
    if all(len(row) == 1 for row in rows):
        lengths = torch.tensor([len(row[0]) for row in rows])
        layout = Layout.padded(lengths, int(lengths.max()))
    else:
        layout = _packed(rows)
    tokens = np.full(layout.shape, fill, np.int64)
    for place, row in enumerate(rows):
        joined = np.concatenate(row)
        tokens[place, : len(joined)] = joined
    return torch.from_numpy(tokens), layout


def padded_zeros(rows: int, length: int) -> tuple[Tensor, Layout]:
    """Tokens (B, T) of sequences of the longest length, for a plan: in a layout like those of other lengths beside."""
    layout = Layout.full(rows, length)
    return torch.zeros(rows, length, dtype=torch.long), layout.undeclared()


def _packed(rows: Rows) -> Layout:
    width = max(sum(map(len, row)) for row in rows)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    segments = torch.zeros_like(positions)
    for place, row in enumerate(rows):
        start = 0
        for segment, sequence in enumerate(row, start=1):
            stop = start + len(sequence)
            positions[place, start:stop] = torch.arange(len(sequence))
            segments[place, start:stop] = segment
            start = stop
    lengths = [len(sequence) for row in rows for sequence in row]
    return Layout(positions, segments, sequences=(len(lengths), max(lengths)))


def starts(rows: Rows, width: int) -> Tensor:
    """Where each sequence of `lay(rows)` begins in the flattened (B*width) tokens: (N,) long."""
    flat = [
        place * width + start
        for place, row in enumerate(rows)
        for start in np.cumsum([0, *map(len, row)])[:-1].tolist()
    ]
    return torch.tensor(flat, dtype=torch.long)
