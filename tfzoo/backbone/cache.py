"""Keys and values kept between calls, so that each generated token costs one step and not the whole sequence.

The caller owns the cache and passes it in; modules hold no state of it. Letters: B batch, K key/value heads,
S keys so far, E width per head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tfzoo.layout import Layout


class SelfCache:
    """The keys and values of one self-attention; room for `capacity` of them is taken once.

    They are (R, K, capacity, E), and lie by time in memory, so that those in use lie together.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values (B, K, T, E); returns all so far, each (B, K, S, E).

        Raises ValueError when there is no room left.
        """
        start, end = self.length, self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens, not for {end}")
        if self.keys is None or self.values is None:
            batch, heads, _, width = keys.shape
            by_time = self.capacity, batch, heads, width
            self.keys = keys.new_empty(by_time).permute(1, 2, 0, 3)
            self.values = keys.new_empty(by_time).permute(1, 2, 0, 3)
        self.keys.narrow(2, start, end - start).copy_(keys)
        self.values.narrow(2, start, end - start).copy_(values)
        self.length = end
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def reorder(self, rows: Tensor, room: Tensor | None = None) -> Tensor | None:
        """Keep row rows[i] as row i. Only the part in use is copied: without gradients, for decoding.

        room: memory to copy to. Returns what is free afterwards, as room for the next: so a step of a whole stack takes
        no new memory.
        """
        if self.keys is not None and self.values is not None:
            self.keys, room = self._select(self.keys, rows, room)
            self.values, room = self._select(self.values, rows, room)
        return room

    @torch.no_grad()
    def _select(self, kept: Tensor, rows: Tensor, room: Tensor | None) -> tuple[Tensor, Tensor]:
        by_time = kept.permute(2, 0, 1, 3)
        shape = (self.capacity, len(rows), *by_time.shape[2:])
        if room is None or room.numel() < math.prod(shape):
            room = kept.new_empty(math.prod(shape))
        chosen = room[: math.prod(shape)].view(shape)
        torch.index_select(by_time[: self.length], 1, rows, out=chosen[: self.length])
        return chosen.permute(1, 2, 0, 3), by_time.view(-1)


class CrossCache:
    """The keys and values of one encoder-decoder attention, projected from the memory once.

    Rows that come from one memory, as the beams of a sentence do, share them: there may be more rows than memories.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def get(self, project: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The projected memory, each (B, K, S, E); `project` is called the first time only."""
        if self.keys is None or self.values is None:
            self.keys, self.values = project()
        return self.keys, self.values

    def select(self, memories: Tensor) -> None:
        """Keep memory memories[i] as memory i."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, memories)
            self.values = self.values.index_select(0, memories)


class StateCache:
    """The state of one recurrent layer, (P, R, D): all that it knows of the tokens so far."""

    def __init__(self) -> None:
        self.state: Tensor | None = None

    def reorder(self, rows: Tensor, room: Tensor | None = None) -> Tensor | None:
        """Keep row rows[i] as row i. It is small: room is not made use of, and returned."""
        if self.state is not None:
            self.state = self.state.index_select(1, rows)
        return room


class Reordered(Protocol):
    """What a layer remembers of each row."""

    def reorder(self, rows: Tensor, room: Tensor | None = None) -> Tensor | None: ...


Kept = TypeVar("Kept", bound=Reordered)


class Cache(Generic[Kept]):
    """What a decoder remembers of one batch.

    For every block the keys and values (or the state), and the layout of the keys.

    Args:
        kept: an empty memory for every block.
    """

    def __init__(self, kept: Iterable[Kept]) -> None:
        self.blocks = [(own, CrossCache()) for own in kept]
        self.layout: Layout | None = None
        self.sharing = 1  # rows of each memory
        self.memories: int | None = None  # how many there are, once rows were reordered
        self.room: Tensor | None = None  # in which the next rows are put in order

    def extend(self, layout: Layout) -> Layout:
        """Note that tokens of this layout come next; returns the layout of all keys, theirs included."""
        self.layout = layout if self.layout is None else self.layout.extend(layout)
        return self.layout

    def reorder(self, rows: Tensor, beams: int = 1) -> Tensor | None:
        """Keep row rows[i], (R,), as row i: for beams that branch and for sentences that are done.

        beams: above 1, rows come in groups of so many that share a memory; groups stay in their order, or leave whole.
        Returns which memories stay, (M,); or, of groups none of which has left, None: these are not copied.
        """
        memories: Tensor | None = rows[::beams] // self.sharing
        if beams > 1 and len(rows) // beams == self.memories:
            memories = None
        self.sharing, self.memories = beams, len(rows) // beams
        for own, cross_cache in self.blocks:
            self.room = own.reorder(rows, self.room)
            if memories is not None:
                cross_cache.select(memories)
        if self.layout is not None:
            self.layout = self.layout.select(rows)
        return memories
