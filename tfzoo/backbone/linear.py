"""Linear layers, whose product with few rows MKL computes in parts, on several cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Measured on two cores of an AMD EPYC (AVX2), weights of 256 x 256 to 50,256 x 768 that are in no cache.
PARTS = 8
"""Of a weight, and so the most cores that share it; 2 to 12 take the same time on two."""
FEW = 8
"""Rows up to which a part is best multiplied from the left, as a matrix with a vector is: 1.1 to 1.5 times as fast."""
MANY = 256
"""Rows above which the whole product is as fast; and so it is where a weight has fewer than `FLAT` outputs for each."""
FLAT = 4
SMALL = 100_000
"""Numbers below which a weight is read faster than it is handed out."""
MKL = torch.backends.mkl.is_available()
PLAIN = Tensor, nn.Parameter
"""Not one that is spread over devices, say."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias. x: (..., in), weight: (out, in), bias: (out,); returns (..., out)."""
    few = x.numel() <= MANY * weight.shape[-1]
    if few and not torch.compiler.is_compiling() and _parts_serve():
        parts = parted(weight, bias)
        if parts is not None:
            return parts.product(x)
    return F.linear(x, weight, bias)


def _parts_serve() -> bool:
    """Whether this is a moment for them: a decoding or an evaluation in full precision."""
    return MKL and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class Parts:
    """A weight (out, in) and its bias (out,) as equal parts that MKL multiplies side by side, and a rest: views."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.out, self.width = weight.shape
        self.equal = equal = self.out - self.out % PARTS
        self.most = min(MANY, equal // FLAT)  # rows with which they gain
        self.weight = weight[:equal].view(PARTS, -1, self.width)
        self.bias = None if bias is None else bias[:equal].view(PARTS, -1, 1)
        self.rest = None
        if equal < self.out:
            self.rest = weight[equal:], None if bias is None else bias[equal:]
        self.whole = weight, bias

    def product(self, x: Tensor) -> Tensor:
        """x: (..., in); returns (..., out).

        One product of a few rows, as decoding has them, MKL leaves to one core, which cannot read a weight as fast as
        several can. This comes by for every layer and token, when whatever was read before has left the processor's
        caches: each view saved, and each question, counts.
        """
        shape, width = x.shape, self.width
        rows = x.numel() // width
        if rows > self.most or shape[-1] != width:
            return F.linear(x, *self.whole)
        if rows <= FEW:
            # Each part is multiplied with the rows as columns. With a step of 1 between columns, of one row as good as
            # any other, MKL takes three times as long.
            columns = x.contiguous().as_strided((PARTS, width, rows), (0, 1, width))
            found = _products(self.bias, self.weight, columns)
            if rows != 1:
                found = found.view(self.equal, rows).t().contiguous()
        else:
            lines = x.reshape(rows, width).expand(PARTS, -1, -1)
            added = None if self.bias is None else self.bias.transpose(1, 2)
            found = _products(added, lines, self.weight.transpose(1, 2)).transpose(0, 1).flatten(1)
        if self.rest is None:
            return found.view(*shape[:-1], self.out)
        return torch.cat([found.view(*shape[:-1], self.equal), F.linear(x, *self.rest)], dim=-1)


def _products(added: Tensor | None, first: Tensor, second: Tensor) -> Tensor:
    return torch.bmm(first, second) if added is None else torch.baddbmm(added, first, second)


def parted(weight: Tensor, bias: Tensor | None) -> Parts | None:
    """weight: (out, in), bias: (out,); None where torch's own product is as good, or the only one."""
    if (
        weight.numel() < SMALL
        or weight.dtype != torch.float32
        or not weight.is_cpu
        or type(weight) not in PLAIN
        or not weight.is_contiguous()
    ):
        return None
    return Parts(weight, bias)


_known: ContextVar[dict[nn.Module, Parts | None] | None] = ContextVar("_known", default=None)


@contextmanager
def weights_stay() -> Iterator[None]:
    """While it lasts, no weight is replaced or moved: how a layer is multiplied is then asked once, not for each token.

    Weights may be changed in place. Of use in a decoding, where the questions take a tenth of the time.
    """
    before = _known.set({} if _parts_serve() else None)
    try:
        yield
    finally:
        _known.reset(before)


class Linear(nn.Linear):
    """torch.nn.Linear by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        if (
            torch.compiler.is_compiling()
            or torch.is_grad_enabled()
            or (known := _known.get()) is None
        ):
            return linear(x, self.weight, self.bias)
        try:
            parts = known[self]
        except KeyError:
            weight = self.weight
            # One that is computed from other parameters each time is no weight to keep.
            parts = parted(weight, self.bias) if type(weight) is nn.Parameter else None
            known[self] = parts
        return F.linear(x, self.weight, self.bias) if parts is None else parts.product(x)
