"""Linear layers, which a CPU computes from packed weights while something is decoded token by token."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_current: ContextVar[Packs | None] = ContextVar("packs", default=None)


class Packs:
    """Weights in the form that oneDNN multiplies few rows with fastest, made when they are first used.

    Torch's own product of a few rows with a weight leaves half of a CPU idle. Packed weights are copies: they are for
    one decoding, in which no weight changes. Each belongs to a weight of the network, or to some rows of one, which
    outlives them.
    """

    def __init__(self) -> None:
        self.packed: dict[tuple[int, torch.Size], Tensor] = {}

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let `linear` use them while this lasts, and make those that it misses."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        place = weight.data_ptr(), weight.shape
        if (packed := self.packed.get(place)) is None:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), len(x))
            self.packed[place] = packed
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias. x: (..., in), weight: (out, in), bias: (out,); returns (..., out)."""
    if (
        torch.compiler.is_compiling()
        or (packs := _current.get()) is None
        or not _packable(x, weight)
    ):
        return F.linear(x, weight, bias)
    return packs.linear(x, weight, bias)


def _packable(x: Tensor, weight: Any) -> bool:
    """One new token in each of several sequences; on the CPUs that oneDNN has such kernels for."""
    return (
        x.dim() == 3
        and x.shape[1] == 1
        and type(weight) in (Tensor, nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and _has_kernels()
    )


def _has_kernels() -> bool:
    return torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")


class Linear(nn.Linear):
    """torch.nn.Linear by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
