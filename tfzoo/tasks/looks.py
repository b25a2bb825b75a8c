"""What the pictures of a network show: attention weights and position encodings, out of its modules.

Letters: B batch, H heads, T queries, S keys, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tfzoo.backbone import (
    LearnedPositions,
    Positions,
    RotaryPositions,
    SinusoidalPositions,
    Transformer,
)
from tfzoo.tracking.attention_pictures import Layer
from tfzoo.tracking.position_pictures import PositionPicture

MOST = 256
"""Positions drawn at most: the first ones, which every sequence has."""


def layers(weights: Mapping[str, Tensor], *parts: str) -> list[Layer]:
    """Of what `capture` collected, attention whose name holds all `parts`, (H, T, S) each, of the batch's first row.

    The first layer, the middle one and the last. Low layers look at neighbours and fixed distances, middle ones at
    what belongs together, the last ones at what the output needs (Clark et al. 2019; Voita et al. 2019): what lies
    between looks much like its neighbours, and a picture of every layer of a deep network is one that nobody looks at.
    Nothing where the network has no such attention, as a recurrent one.
    """
    names = [name for name in weights if all(part in name for part in parts)]
    if not names:
        return []
    last = len(names) - 1
    chosen = sorted({0, (last + 1) // 2, last})
    return [Layer(f"layer {i + 1}", weights[names[i]][0].float().cpu().numpy()) for i in chosen]


@torch.no_grad()
def positions(network: nn.Module, grid: int = 0) -> Iterator[PositionPicture]:
    """How alike the positions of each stack are, learned ones beside sinusoidal; stacks that are alike give one.

    grid: patches along a side, where the positions are those of a class token and an image's patches.
    """
    stacks = {n: m for n, m in network.named_modules() if isinstance(m, Transformer)}
    learned = [
        name for name, stack in stacks.items() if isinstance(stack.positions, LearnedPositions)
    ]
    for name in learned or list(stacks)[:1]:
        stack = stacks[name]
        given = _encodings(stack.positions, grid)
        if not given:
            continue
        total = 1 + grid**2 if grid else stack.config.max_length
        length = len(next(iter(given.values())))
        if "sinusoidal" not in given and stack.config.dim % 2 == 0:
            other = SinusoidalPositions(length, stack.config.dim)
            given["sinusoidal"] = other.table.numpy()
        title = "positions" if len(learned) < 2 else f"positions-{name}"
        yield PositionPicture(title, given, grid, bool(learned), total)


def _encodings(positions: Positions, grid: int) -> dict[str, np.ndarray]:
    """By their kind (T, D), T as many as are drawn; nothing where there are none."""
    length = 1 + grid**2 if grid else MOST
    if isinstance(positions, LearnedPositions):
        # A copy: what numpy shares with a parameter cannot be sharded again.
        return {"learned": positions.table[:length].clone().float().cpu().numpy()}
    if isinstance(positions, SinusoidalPositions):
        return {"sinusoidal": positions.table[:length].clone().float().cpu().numpy()}
    if isinstance(positions, RotaryPositions):
        turned = torch.cat([positions.cos[:length], positions.sin[:length]], dim=1)
        return {"rotary": turned.float().cpu().numpy()}
    return {}
