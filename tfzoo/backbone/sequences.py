"""The sequences of a layout, each in a row of its own: what a recurrence goes through from one end to the other.

Letters: B rows and T columns of the layout, N sequences, L tokens of the longest, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tfzoo.layout import Layout


class Sequences:
    """Tokens (B, T) as sequences (N, L), padded on the right, and back.

    Shapes come from facts that the layout knows on the host; only of a layout that does not say how many sequences it
    has, and how long they are, is a tensor read from the device.

    Args:
        layout: of the tokens.
        whole_rows: each row is (a part of) one sequence, as where a cached one goes on.
    """

    def __init__(self, layout: Layout, whole_rows: bool = False) -> None:
        self.tokens = layout.shape.numel()
        self.width = layout.shape[1]
        self.layout = layout
        self.dense = layout.dense
        if layout.dense:
            self.shape = layout.shape
            return
        real = layout.segments > 0
        place = torch.arange(self.tokens, device=layout.device)
        if whole_rows:
            self.shape = layout.shape
            number, offset = place // self.width, (real.cumsum(1) - 1).flatten()
        else:
            begins = real.clone()
            begins[:, 1:] &= layout.segments[:, 1:] != layout.segments[:, :-1]
            begins = begins.flatten()
            number = begins.cumsum(0) - 1
            offset = place - torch.where(begins, place, 0).cummax(0).values
            self.shape = torch.Size(layout.sequences or self._read(real.flatten(), number, offset))
        count, longest = self.shape
        # Padding lies in one place more, where nobody reads it.
        self.slot = torch.where(real.flatten(), number * longest + offset, count * longest)
        self.token = torch.full((count * longest + 1,), self.tokens, device=layout.device)
        self.token = self.token.scatter(0, self.slot, place)[:-1]
        self.lengths = (self.token < self.tokens).unflatten(0, self.shape).sum(1)
        step = torch.arange(longest, device=layout.device)
        turned = torch.where(step < self.lengths[:, None], self.lengths[:, None] - 1 - step, step)
        first = torch.arange(count, device=layout.device)[:, None] * longest
        self.turned = (first + turned).flatten()

    @staticmethod
    def _read(real: Tensor, number: Tensor, offset: Tensor) -> tuple[int, int]:
        longest = int(torch.where(real, offset + 1, 1).max())
        return max(1, int(number[-1]) + 1), longest

    def separate(self, x: Tensor) -> Tensor:
        """x: (B, T, D); returns (N, L, D), zero beyond the end of a sequence."""
        if self.dense:
            return x
        x = x.flatten(0, 1)
        x = torch.cat([x, x.new_zeros(1, x.shape[1])])
        return x.index_select(0, self.token).unflatten(0, self.shape)

    def join(self, x: Tensor) -> Tensor:
        """x: (N, L, D); returns (B, T, D), zero at padding."""
        if self.dense:
            return x
        x = x.flatten(0, 1)
        x = torch.cat([x, x.new_zeros(1, x.shape[1])])
        return x.index_select(0, self.slot).unflatten(0, self.layout.shape)

    def turn(self, x: Tensor) -> Tensor:
        """Every sequence from its end to its beginning. x: (N, L, D); returns the same."""
        if self.dense:
            return x.flip(1)
        return x.flatten(0, 1).index_select(0, self.turned).unflatten(0, self.shape)

    def owners(self) -> tuple[Tensor, Tensor]:
        """Of each sequence its row, and its segment there; an empty one is of no segment, -1. Each (N,) long."""
        if self.dense:
            rows = torch.arange(self.shape[0], device=self.layout.device)
            return rows, self.layout.segments[:, 0]
        first = self.token.unflatten(0, self.shape)[:, 0]
        empty = first == self.tokens
        first = first.masked_fill(empty, 0)
        return first // self.width, self.layout.segments.flatten()[first].masked_fill(empty, -1)
