"""Linear layers, whose product with few rows MKL computes in parts, on several cores."""

from __future__ import annotations

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
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not x.is_cpu or not MKL:
        return F.linear(x, weight, bias)
    out, width = weight.shape
    if (
        out * width >= SMALL
        and x.shape[-1] == width
        and (rows := x.numel() // width) <= MANY
        and FLAT * rows <= out
        and x.dtype == weight.dtype == torch.float32
        and type(weight) in PLAIN
        and weight.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
    ):
        return _by_parts(x, weight, bias)
    return F.linear(x, weight, bias)


def _by_parts(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same, as products of parts of the weight, which MKL computes side by side.

    One product of a few rows, as decoding has them, it leaves to one core, which cannot read a weight as fast as
    several can. This comes by for every layer and token, when whatever was read before has left the processor's
    caches: each view saved, and each question, counts.
    """
    out, width = weight.shape
    if rest := out % PARTS:
        whole = _by_parts(x, weight[:-rest], None if bias is None else bias[:-rest])
        last = F.linear(x, weight[-rest:], None if bias is None else bias[-rest:])
        return torch.cat([whole, last], dim=-1)
    rows, parts = x.numel() // width, weight.view(PARTS, -1, width)
    if rows <= FEW:
        # Each part is multiplied with the rows as columns. With a step of 1 between columns, of one row as good as any
        # other, MKL takes three times as long.
        columns = x.contiguous().as_strided((PARTS, width, rows), (0, 1, width))
        product = _products(None if bias is None else bias.view(PARTS, -1, 1), parts, columns)
        found = product.view(out, rows).t().contiguous() if rows > 1 else product
    else:
        lines = x.reshape(rows, width).expand(PARTS, -1, -1)
        added = None if bias is None else bias.view(PARTS, 1, -1)
        product = _products(added, lines, parts.transpose(1, 2))
        found = product.transpose(0, 1).flatten(1)
    return found.view(*x.shape[:-1], out)


def _products(added: Tensor | None, first: Tensor, second: Tensor) -> Tensor:
    return torch.bmm(first, second) if added is None else torch.baddbmm(added, first, second)


class Linear(nn.Linear):
    """torch.nn.Linear by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
