"""The stack: encoder, decoder and decoder-only are one class with causal and cross on or off.

Letters: B batch, T length, S memory length, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfzoo.backbone.attention import Attention
from tfzoo.backbone.block import Block, FeedForward, norm_for
from tfzoo.backbone.cache import Cache, SelfCache
from tfzoo.backbone.config import TransformerConfig
from tfzoo.backbone.positions import positions_for
from tfzoo.layout import Layout, lower


class Transformer(nn.Module):
    """A stack of blocks over embeddings (Vaswani et al. 2017).

    Args:
        config: the shape of the stack.
        causal: each position sees only itself and earlier ones, unless `config` says otherwise.
        cross: each block also attends to a memory, the encoder's output.
    """

    def __init__(
        self, config: TransformerConfig, *, causal: bool = False, cross: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.causal = causal if config.causal is None else config.causal
        self.positions = positions_for(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, cross) for _ in range(config.depth))
        # After the last pre-norm sum nothing has normalised the stream yet.
        self.norm = norm_for(config) if config.norm_placement == "pre" else nn.Identity()
        adding = config.depth * (1 + cross + (config.hidden != 0)) if config.residual else 1
        initialise(self, sublayers=adding)

    def cache(self, capacity: int) -> Cache[SelfCache]:
        """An empty cache for sequences of up to `capacity` tokens."""
        return Cache(SelfCache(capacity) for _ in self.blocks)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache[SelfCache] | None = None,
    ) -> Tensor:
        """x: (B, T, D) embeddings; memory: (B, S, D) for a stack with cross-attention; returns (B, T, D).

        With a cache, x holds only the tokens that are new since the last call, and there may be fewer memories than
        rows (see `Cache.reorder`).
        """
        added = self.positions.added(layout)
        x = self.dropout(x if added is None else x + added.type_as(x))
        rotation = self.positions.rotation(layout)
        keys = layout if cache is None else cache.extend(layout)
        mask = lower(layout, keys, self.causal, own=True)
        memory_mask = None
        if memory_layout is not None:
            asking = layout.folded(memory_layout.shape[0])
            memory_mask = lower(asking, memory_layout, causal=False)
        for index, block in enumerate(self.blocks):
            kept = None if cache is None else cache.blocks[index]
            x = block(x, mask, rotation, memory, memory_mask, kept)
        return self.norm(x)


@torch.no_grad()
def initialise(module: nn.Module, sublayers: int) -> None:
    """Normal weights of variance 1 / fan-in; those that end a sublayer smaller by the root of their number.

    With `sublayers` of them adding to one stream, its variance then stays of order one at any depth
    (Radford et al. 2019, section 2.3).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, Attention | FeedForward):
            part.output.weight.mul_(sublayers**-0.5)
