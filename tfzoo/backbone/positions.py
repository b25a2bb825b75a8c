"""Where a token stands: sinusoidal, learned and rotary positions behind one interface.

Letters: B batch, T length, D width, E width per head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tfzoo.backbone.config import TransformerConfig
from tfzoo.layout import Layout


class Rotation(NamedTuple):
    """Cosines and sines that turn pairs of query and key features; each (B or 1, 1, T, E / 2)."""

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Rotate feature i together with feature i + E / 2. x: (B, H, T, E); returns the same."""
        first, second = x.float().chunk(2, dim=-1)
        turned = torch.cat(
            [first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1
        )
        return turned.type_as(x)


class Positions(nn.Module):
    """What positions contribute: a vector added to the embedding, or a rotation of queries and keys. Here, neither."""

    def added(self, layout: Layout) -> Tensor | None:
        """What is added to the embedding, (B or 1, T, D), or None."""
        return None

    def rotation(self, layout: Layout) -> Rotation | None:
        """What turns queries and keys, or None."""
        return None


def look_up(table: Tensor, layout: Layout) -> Tensor:
    """Rows of `table` (N, C) at the layout's positions: (B, T, C), or (1, T, C) where all rows are alike.

    Raises ValueError where a dense layout runs past the table.
    """
    end = layout.start + layout.shape[1]
    if layout.dense:
        if end > len(table):
            raise ValueError(
                f"a sequence of {end} tokens does not fit the model's {len(table)} positions"
            )
        return table[None, layout.start : end]
    return table[layout.positions]


class SinusoidalPositions(Positions):
    """Sines and cosines of geometrically spaced wavelengths (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, max_length: int, dim: int) -> None:
        super().__init__()
        frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        angle = torch.arange(max_length)[:, None] * frequency
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)

    def added(self, layout: Layout) -> Tensor:
        return look_up(self.table, layout)


class LearnedPositions(Positions):
    """One learned vector per position (Gehring et al. 2017; Devlin et al. 2019)."""

    def __init__(self, max_length: int, dim: int) -> None:
        super().__init__()
        # As large as sinusoidal ones, whose mean square is 1/2: seen beside embeddings of unit variance.
        self.table = nn.Parameter(torch.randn(max_length, dim) * 0.5**0.5)

    def added(self, layout: Layout) -> Tensor:
        return look_up(self.table, layout)


class RotaryPositions(Positions):
    """Queries and keys turned by angles that grow with position, so that products see distances (Su et al. 2021)."""

    def __init__(self, max_length: int, head_dim: int, base: float) -> None:
        super().__init__()
        frequency = base ** (-torch.arange(0, head_dim, 2) / head_dim)
        angle = torch.arange(max_length)[:, None] * frequency
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def rotation(self, layout: Layout) -> Rotation:
        return Rotation(
            look_up(self.cos, layout)[:, None].float(), look_up(self.sin, layout)[:, None].float()
        )


def positions_for(config: TransformerConfig) -> Positions:
    """The positions that `config` names."""
    if config.positions == "sinusoidal":
        return SinusoidalPositions(config.max_length, config.dim)
    if config.positions == "learned":
        return LearnedPositions(config.max_length, config.dim)
    if config.positions == "rotary":
        return RotaryPositions(config.max_length, config.head_dim, config.rotary_base)
    return Positions()
