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
    one decoding, in which no weight changes. Each belongs to a parameter of the network, or to some rows of one.
    """

    def __init__(self) -> None:
        # With the weight itself, whose address nobody else can have in the meantime.
        self.packed: dict[tuple[int, torch.Size], tuple[Tensor, Tensor]] = {}

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
        if place not in self.packed:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), len(x))
            self.packed[place] = weight, packed
        return torch.ops.mkldnn._linear_pointwise(x, self.packed[place][1], bias, "none", [], "")


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
        and nn.Parameter
        in (type(weight), type(weight._base))  # else it is computed, maybe anew each time
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
