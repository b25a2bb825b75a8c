"""The loss of an optimiser step: the mean over every token or sample of all its batches, on all devices.

A mean of means would weigh a token by the batch that it happens to be in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


class StepMean:
    """Adds up the losses of one optimiser step, and makes gradients of their sums those of their mean.

    Backward takes each batch's sum divided by a power of two, which is exact; by how many losses it should be divided
    is known only when the last batch of the step has come. A step of a single batch needs none of this.

    latest: scalar, the loss of the step closed last; done: scalar, of how many losses all steps so far were the means.
    """

    latest: Tensor

    def __init__(self) -> None:
        self.unit: float | None = None  # about the losses of a batch, the same on every device
        self.done: Tensor | None = None
        self.seen: Tensor | None = None  # (2,) the sum of losses and their number, of this device

    def add(self, total: Tensor, count: Tensor, averaged: int) -> Tensor:
        """What backward takes of a batch, whose losses sum to `total` and are `count`, both scalars.

        averaged: over how many batches, of this device and others, gradients will be averaged.
        """
        new = torch.stack([total.detach().float(), count.float()])
        self.seen = new if self.seen is None else self.seen + new
        if averaged == 1:
            return total / count.clamp(min=1)
        if self.unit is None:
            most = over_devices(count.float(), dist.ReduceOp.MAX)
            self.unit = 2.0 ** round(math.log2(max(1.0, most.item())))
        return total / self.unit

    def close(self, parameters: Iterable[Tensor], averaged: int) -> Tensor:
        """The mean loss of the step, whose gradients the parameters have from now on."""
        assert self.seen is not None
        total, count = over_devices(self.seen, dist.ReduceOp.SUM).unbind()
        self.seen = None
        self.done = count.long() if self.done is None else self.done + count.long()
        count = count.clamp(min=1)
        if averaged > 1:
            assert self.unit is not None
            gradients = [_here(p.grad) for p in parameters if p.grad is not None]
            if gradients:
                torch._foreach_mul_(gradients, averaged * self.unit / count)
        self.latest = total / count
        return self.latest


def over_devices(value: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
    """A tensor added up, or otherwise reduced, over all devices of the training."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        value = value.clone()
        dist.all_reduce(value, how)
    return value


def _here(gradient: Tensor) -> Tensor:
    """This device's part of a gradient, the same memory."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient
