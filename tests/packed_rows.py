"""Rows of several sequences, for the laws that every stack obeys."""

from __future__ import annotations

import torch
from torch import Tensor

from tfzoo.layout import Layout


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def packed(*rows: list[int], width: int) -> Layout:
    """Sequences of the given lengths side by side in each row, padded to `width`."""
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    segments = torch.zeros_like(positions)
    for row, lengths in enumerate(rows):
        start = 0
        for segment, length in enumerate(lengths, start=1):
            positions[row, start : start + length] = torch.arange(length)
            segments[row, start : start + length] = segment
            start += length
    return Layout(positions, segments)


def sequences(layout: Layout) -> list[tuple[int, slice]]:
    """Where each sequence of the layout lies: its row, and its place in the row."""
    found = []
    for row, segments in enumerate(layout.segments.tolist()):
        for segment in range(1, max(segments) + 1):
            first = segments.index(segment)
            found.append((row, slice(first, first + segments.count(segment))))
    return found
