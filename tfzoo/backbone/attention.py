"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2), self and cross, with the kernels that compute it.

Letters: B batch, T query length, S key length, D width, H query heads, K key/value heads, E width per head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfzoo.backbone import products
from tfzoo.backbone.cache import CrossCache, SelfCache
from tfzoo.backbone.config import TransformerConfig
from tfzoo.backbone.linear import Linear, linear
from tfzoo.backbone.positions import Rotation
from tfzoo.layout import Mask

Kernel = Callable[[Tensor, Tensor, Tensor, Mask, float], Tensor]
"""(query (B, H, T, E), key (B, K, S, E), value (B, K, S, E), mask, dropout) -> (B, H, T, E)"""


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float) -> Tensor:
    """softmax(query key^T / sqrt(E)) value by the fastest kernel for the device; weights are never stored."""
    if products.serve(query, key, mask, dropout):
        return products.attend(query, key, value, mask)
    heads = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask.visible,
        dropout_p=dropout,
        is_causal=mask.is_causal,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return blinded(heads, mask) if heads.is_cuda else heads


def blinded(heads: Tensor, mask: Mask) -> Tensor:
    """What a GPU's kernel gives, and 0 for a query that may see nothing: cuDNN's, in half precision, shows it all."""
    if mask.visible is None or not mask.blind or heads.dtype == torch.float32:
        return heads
    return heads.masked_fill(~mask.visible.any(dim=-1, keepdim=True), 0.0)


def attention_weights(query: Tensor, key: Tensor, mask: Mask) -> Tensor:
    """softmax(query key^T / sqrt(E)), the weights in float32. Returns (B, H, T, S); a row that may see nothing is 0."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = (query @ key.transpose(-2, -1)).float() / math.sqrt(query.shape[-1])
    visible = mask.visible
    if mask.is_causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if visible is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    return weights.masked_fill(~visible, 0.0)


def explicit(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float) -> Tensor:
    """The same as `fused`, written out: every weight is computed and can be looked at."""
    weights = attention_weights(query, key, mask)
    value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    return F.dropout(weights, dropout).type_as(value) @ value


class Attention(nn.Module):
    """Multi-head attention of x to itself, or to a memory where one is given.

    Queries, keys and values come from one matrix product where their source is the same. With fewer key/value
    heads than query heads, each serves a group of queries (Ainslie et al. 2023).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.key_value_heads
        self.head_dim = config.head_dim
        self.widths = [config.dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim]
        self.dropout = config.attention_dropout
        # Kernels divide by the root of the width per head: queries make up for any other scale.
        scale = config.attention_scale
        self.stretch = None if scale is None else scale * math.sqrt(self.head_dim)
        self.project = Linear(config.dim, sum(self.widths), bias=config.bias)
        self.output = Linear(config.dim, config.dim, bias=config.bias)
        self.kernel: Kernel = fused

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        rotation: Rotation | None = None,
        memory: Tensor | None = None,
        cache: SelfCache | CrossCache | None = None,
    ) -> Tensor:
        """x: (B, T, D); memory: (B, S, D) or None for self-attention; returns (B, T, D).

        A cached memory may be that of several rows, as `CrossCache` says; the mask is then that of `Layout.folded`.
        """
        if memory is None:
            each = self.heads, self.kv_heads, self.kv_heads
            query, key, value = self._split(self.project(x)).split_with_sizes(each, dim=1)
            if rotation is not None:
                query, key = rotation.turn(query), rotation.turn(key)
            if isinstance(cache, SelfCache):
                key, value = cache.append(key, value)
        else:
            query = self._split(self._part(x, slice(None, self.widths[0])))
            key, value = (
                cache.get(lambda: self._key_value(memory))
                if isinstance(cache, CrossCache)
                else self._key_value(memory)
            )
        if self.stretch is not None:
            query = query * self.stretch
        rows, memories = query.shape[0], key.shape[0]
        if rows != memories:  # several of them share a memory: they ask it together
            query = query.unflatten(0, (memories, -1)).transpose(1, 2).flatten(2, 3)
        heads = self.kernel(query, key, value, mask, self.dropout if self.training else 0.0)
        if rows != memories:
            heads = heads.unflatten(2, (rows // memories, -1)).transpose(1, 2).flatten(0, 1)
        return self.output(heads.transpose(1, 2).flatten(2))

    def _key_value(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self._split(self._part(memory, slice(self.widths[0], None))).chunk(2, dim=1)
        return key, value

    def _part(self, x: Tensor, rows: slice) -> Tensor:
        bias = self.project.bias
        return linear(x, self.project.weight[rows], None if bias is None else bias[rows])

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], x.shape[-1] // self.head_dim, self.head_dim).transpose(1, 2)


@contextmanager
def capture(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of every call inside the block, for pictures.

    Yields a dict that fills as the module is called: name of the attention in `module` -> (B, H, T, S) float32;
    the newest call wins. While it lasts, attention runs by the explicit kernel.
    """
    weights: dict[str, Tensor] = {}
    attentions = {n: m for n, m in module.named_modules() if isinstance(m, Attention)}
    kernels = {name: attention.kernel for name, attention in attentions.items()}

    def recording(name: str) -> Kernel:
        def kernel(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float) -> Tensor:
            weights[name] = attention_weights(query, key, mask).detach()
            return explicit(query, key, value, mask, dropout)

        return kernel

    try:
        for name, attention in attentions.items():
            attention.kernel = recording(name)
        yield weights
    finally:
        for name, attention in attentions.items():
            attention.kernel = kernels[name]
