"""Who sees whom: the layout that travels with every batch of sequences, and the masks it lowers to.

Letters: B batch, T query length, S key length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each token of a batch stands.

    positions: (B, T) long, the token's place in its sequence, from 0.
    segments: (B, T) long, which sequence of its row the token belongs to; 0 is padding.
    dense: every row is one sequence, segment 1, without padding, its positions start, start + 1, ... A fact known where
        the batch is made, so that choosing a mask never reads a tensor back from the device.
    start: the first position of a dense layout; above zero where a cached sequence goes on.
    sequences: how many there are, and how long the longest is, at most; a fact as `dense` is, or None.
    """

    positions: Tensor
    segments: Tensor
    dense: bool = False
    start: int = 0
    sequences: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.positions.shape != self.segments.shape or self.positions.dim() != 2:
            raise ValueError(
                f"a layout needs positions and segments of one shape (B, T), "
                f"not {tuple(self.positions.shape)} and {tuple(self.segments.shape)}"
            )

    @staticmethod
    def full(
        batch: int, length: int, device: torch.device | str | None = None, start: int = 0
    ) -> Layout:
        """The layout of B sequences of exactly `length` tokens, from position `start` on."""
        where = torch.get_default_device() if device is None else torch.device(device)
        return _Full(batch, length, where, start)

    @staticmethod
    def padded(lengths: Tensor, length: int) -> Layout:
        """The layout of sequences of the given lengths, (B,), padded on the right to `length`."""
        positions = torch.arange(length, device=lengths.device).expand(len(lengths), length)
        segments = (positions < lengths[:, None]).long()
        dense = bool((lengths == length).all())
        return Layout(positions, segments, dense, sequences=(len(lengths), length))

    @property
    def shape(self) -> torch.Size:
        return self.positions.shape

    @property
    def device(self) -> torch.device:
        return self.positions.device

    def to(self, *args, **kwargs) -> Layout:
        return Layout(
            self.positions.to(*args, **kwargs),
            self.segments.to(*args, **kwargs),
            self.dense,
            self.start,
            self.sequences,
        )

    def pin_memory(self) -> Layout:
        # Positions that all rows share are one row seen many times, which cannot be copied as it is.
        return Layout(
            self.positions.contiguous().pin_memory(),
            self.segments.contiguous().pin_memory(),
            self.dense,
            self.start,
            self.sequences,
        )

    def undeclared(self) -> Layout:
        """The same without the claim of being dense: masks are chosen for it as for padded batches."""
        return Layout(self.positions, self.segments, start=self.start, sequences=self.sequences)

    def select(self, rows: Tensor) -> Layout:
        """The layout of the rows of these numbers, (R,)."""
        if self.dense:  # all rows are alike
            return Layout.full(len(rows), self.shape[1], self.device, self.start)
        return Layout(self.positions[rows], self.segments[rows], self.dense, self.start)

    def folded(self, rows: int) -> Layout:
        """The same tokens in fewer rows, each several of these one after the other: for who asks for segments alone."""
        if rows == len(self.positions):
            return self
        if self.dense:
            return Layout.full(rows, self.positions.numel() // rows, self.device, self.start)
        return Layout(
            self.positions.reshape(rows, -1), self.segments.reshape(rows, -1), start=self.start
        )

    def head(self, length: int) -> Layout:
        """The layout of the first `length` tokens of every row."""
        return Layout(self.positions[:, :length], self.segments[:, :length], self.dense, self.start)

    def extend(self, other: Layout) -> Layout:
        """This layout followed by another along the sequence: (B, S) and (B, T) give (B, S + T)."""
        (rows, length), (others, more) = self.shape, other.shape
        follows = rows == others and other.start == self.start + length
        if self.dense and other.dense and follows:
            return Layout.full(rows, length + more, self.device, self.start)
        return Layout(
            torch.cat([self.positions, other.positions], dim=1),
            torch.cat([self.segments, other.segments], dim=1),
            start=self.start,
        )


class _Full(Layout):
    """A dense layout, whose tensors are made when they are asked for: many of a decoding's layouts never are."""

    _shape: torch.Size
    _device: torch.device

    def __init__(self, batch: int, length: int, device: torch.device, start: int) -> None:
        shape = torch.Size((batch, length))
        vars(self).update(dense=True, start=start, sequences=shape, _shape=shape, _device=device)

    @property
    def shape(self) -> torch.Size:
        return self._shape

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def positions(self) -> Tensor:
        return self._kept("_positions", self._number)

    @property
    def segments(self) -> Tensor:
        return self._kept("_segments", self._mark)

    def to(self, *args, copy: bool = False, **kwargs) -> Layout:
        device, *_ = torch._C._nn._parse_to(*args, **kwargs)
        return self if device is None else _Full(self.shape[0], self.shape[1], device, self.start)

    def _number(self) -> Tensor:
        row = torch.arange(self.start, self.start + self.shape[1], device=self.device)
        return row.expand(self.shape)

    def _mark(self) -> Tensor:
        return torch.ones(self.shape, dtype=torch.long, device=self.device)

    def _kept(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        if torch.compiler.is_compiling():
            return make()
        if name not in vars(self):
            # A batch may be evaluated first and learned from later.
            with torch.inference_mode(False):
                made = make()
            if type(made) is not Tensor:  # where a training is rehearsed without numbers
                return made
            vars(self)[name] = made
        return vars(self)[name]


class Mask(NamedTuple):
    """What a kernel is told: nothing to hide, hide the future (`is_causal`), or a table of what is visible.

    visible: (B, 1, T, S) bool, True where the query sees the key, or None; blind: whether a query may see nothing.
    """

    is_causal: bool = False
    visible: Tensor | None = None
    blind: bool = True


def visible(query: Layout, key: Layout, causal: bool) -> Tensor:
    """The one rule, spelled out: same segment and, where causal, key position <= query position.

    Padding (segment 0) sees only padding, so no real token ever depends on it. Returns (B, T, S) bool.
    """
    seen = query.segments[:, :, None] == key.segments[:, None, :]
    if causal:
        seen = seen & (key.positions[:, None, :] <= query.positions[:, :, None])
    return seen


def lower(query: Layout, key: Layout, causal: bool, own: bool = False) -> Mask:
    """The cheapest mask that says the same as `visible`, chosen from facts known on the host alone.

    own: the keys are those of the queries, or of these and earlier ones, so that each sees at least itself.
    """
    if query.dense and key.dense:
        if not causal:
            return Mask()
        if query.shape == key.shape and query.start == key.start:
            return Mask(is_causal=True)
        if query.shape[1] == 1 and query.start == key.start + key.shape[1] - 1:
            return Mask()  # the newest token sees all that the cache holds
    return Mask(visible=visible(query, key, causal)[:, None], blind=not own)
