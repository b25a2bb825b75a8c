"""Attention that is trained in bfloat16 on a CPU, as matrix products: torch's kernel is up to four times slower there.

Weights are computed a few rows at a time, so that they stay in the caches, and again in the backward pass instead of
being kept. Letters as in attention.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tfzoo.layout import Mask

WEIGHTS = 1 << 20
"""So many are computed at a time, in two or three copies."""

QUERIES = 128
"""So many, of each row, ask together at least; no more where what comes after them is hidden: it is left out."""


def serve(query: Tensor, key: Tensor, mask: Mask, dropout: float) -> bool:
    """Whether `attend` can take this, and is as a rule the faster one."""
    return (
        torch.is_grad_enabled()
        and query.is_cpu
        and dropout == 0
        and query.shape[1] == key.shape[1]
        and (not mask.is_causal or query.shape[2] == key.shape[2])
        and _dtype(query) == torch.bfloat16
        and not torch.compiler.is_compiling()
        and _multiplies_halves()
    )


@cache
def _multiplies_halves() -> bool:
    """Whether this processor has units for products in bfloat16; without them torch's kernel computes in float32."""
    return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # not public: it may go


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """softmax(query key^T / sqrt(E)) value in bfloat16; 0 for a query that may see nothing.

    query: (B, H, T, E), key and value: (B, H, S, E), S = T where the future is hidden; returns (B, H, T, E).
    """
    dtype = _dtype(query)
    if mask.visible is not None:  # of which one row may stand for all
        mask = mask._replace(
            visible=mask.visible.expand(len(query), -1, query.shape[2], key.shape[2])
        )
    return _Products.apply(query.to(dtype), key.to(dtype), value.to(dtype), mask)


def _dtype(query: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype


class _Piece(NamedTuple):
    """Rows of a batch, of these the queries from first to last, and the number of keys that they may see."""

    rows: slice
    first: int
    last: int
    keys: int


def _pieces(query: Tensor, key: Tensor, mask: Mask) -> Iterator[_Piece]:
    """All there is to compute; of each row the last queries first, which see every key."""
    (batch, heads, length, _), keys = query.shape, key.shape[2]
    of_query = max(1, heads * keys)
    most = QUERIES if mask.is_causal else max(QUERIES, WEIGHTS // of_query)
    each = max(1, min(length, most))
    rows = max(1, WEIGHTS // (each * of_query))
    for row in range(0, batch, rows):
        for first in reversed(range(0, max(1, length), each)):
            last = min(first + each, length)
            yield _Piece(slice(row, row + rows), first, last, last if mask.is_causal else keys)


def _weights(query: Tensor, key: Tensor, mask: Mask, piece: _Piece) -> Tensor:
    """Of scaled queries: (b, H, t, E) and (b, H, s, E) give (b, H, t, s)."""
    scores = query @ key.mT
    if mask.is_causal:
        own = scores[..., piece.first :]
        own.masked_fill_(_future(own), -math.inf)
    if mask.visible is None:
        return scores.softmax(dim=-1)
    hidden = ~mask.visible[piece.rows, :, piece.first : piece.last]
    weights = scores.masked_fill_(hidden, -math.inf).softmax(dim=-1)
    return weights.masked_fill_(hidden, 0.0) if mask.blind else weights


def _future(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)


def _beside(other: Tensor) -> Tensor:
    """Room for what has this shape, (B, H, T, E), in which the heads of a token lie together."""
    return torch.empty_like(other.transpose(1, 2), memory_format=torch.contiguous_format).transpose(
        1, 2
    )


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.mask = mask
        heads = _beside(query)
        with torch.autocast("cpu", enabled=False):
            for piece in _pieces(query, key, mask):
                rows, first, last, keys = piece
                asked = query[rows, :, first:last] * query.shape[-1] ** -0.5
                weights = _weights(asked, key[rows, :, :keys], mask, piece)
                heads[rows, :, first:last] = weights @ value[rows, :, :keys]
        return heads

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        of_query, of_key, of_value = map(_beside, (query, key, value))
        with torch.autocast("cpu", enabled=False):
            for piece in _pieces(query, key, ctx.mask):
                rows, first, last, keys = piece
                asked = query[rows, :, first:last] * scale
                told = gradient[rows, :, first:last]
                weights = _weights(asked, key[rows, :, :keys], ctx.mask, piece)
                of_weights = told @ value[rows, :, :keys].mT
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                torch.mul(of_scores @ key[rows, :, :keys], scale, out=of_query[rows, :, first:last])
                for whole, part in (
                    (of_key, of_scores.mT @ asked),
                    (of_value, weights.mT @ told),
                ):
                    if last == query.shape[2]:
                        whole[rows, :, :keys] = part
                    else:
                        whole[rows, :, :keys] += part
        return of_query, of_key, of_value, None
