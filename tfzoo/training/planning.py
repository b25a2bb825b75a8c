"""Plans of a training: the memory of each device, speed and time, before anything is queued."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from tfzoo.backbone import units
from tfzoo.layout import Layout
from tfzoo.training.rehearsal import Precision, Rehearsal, rehearse


@dataclass(frozen=True)
class Memory:
    """What one device holds at the peak of a step, in bytes.

    exchange: of DDP the buckets in which gradients travel; of FSDP what is gathered at the time.
    activations: temporaries and the batch included.
    """

    strategy: str
    checkpointing: bool
    weights: int
    gradients: int
    optimizer: int
    exchange: int
    activations: int

    @property
    def total(self) -> int:
        parts = (self.weights, self.gradients, self.optimizer, self.exchange, self.activations)
        return sum(parts)

    def fits(self, device_memory: int) -> str:
        """yes, no, or tight: where the allocator's gaps and the driver's own share may be too much."""
        if self.total > device_memory:
            return "no"
        return "yes" if self.total <= 0.9 * device_memory else "tight"


@dataclass(frozen=True)
class Job:
    """How a training is spread.

    devices: that see batches of their own; accumulate: batches of each for one step; averages: copies of the weights
    that are kept beside them, as by EMAWeightAveraging; steps: of the whole training, None where nobody knows; views:
    whether DDP keeps gradients in its buckets (gradient_as_bucket_view) rather than beside them.
    """

    devices: int = 1
    accumulate: int = 1
    averages: int = 0
    steps: int | None = None
    views: bool = False


@dataclass(frozen=True)
class Plan:
    """All that can be told of a training beforehand; of FLOPs those of `Rehearsal`, for one token or image.

    unit: what is counted, "token" or "image"; batch: how many a device sees at once.
    """

    parameters: int
    unit: str
    batch: int
    forward_flops: float
    training_flops: float
    memory: tuple[Memory, ...]
    job: Job

    @property
    def step(self) -> int:
        """Tokens or images of a step, over all devices."""
        return self.batch * self.job.devices * self.job.accumulate

    @property
    def total(self) -> int | None:
        """Tokens or images of the whole training."""
        return None if self.job.steps is None else self.step * self.job.steps

    def speed(self, peak_flops: float, utilisation: float) -> float:
        """Tokens or images a second over all devices, where they reach a share of their peak."""
        return self.job.devices * peak_flops * utilisation / self.training_flops

    def seconds(self, peak_flops: float, utilisation: float) -> float | None:
        return None if self.total is None else self.total / self.speed(peak_flops, utilisation)

    def to_dict(self) -> dict[str, Any]:
        memory = [{**asdict(row), "total": row.total} for row in self.memory]
        return {**asdict(self), "memory": memory, "step": self.step, "total": self.total}


def planned(task: Any, batch: Any, precision: Precision, job: Job, selected: float = 0.0) -> Plan:
    """The plan of a training of a task, on whatever device (meta too), with batches like this one.

    selected: as in `rehearse`.
    """
    accumulates = job.accumulate > 1
    plain, again = (
        rehearse(
            task,
            batch,
            precision,
            checkpointing=checkpointing,
            accumulates=accumulates,
            selected=selected,
        )
        for checkpointing in (False, True)
    )
    unit, count = counted(batch)
    strategies = (_replicated, _sharded) if job.devices > 1 else (_replicated,)
    memory = tuple(
        strategy(task, rehearsal, precision, job, rehearsal is again)
        for strategy in strategies
        for rehearsal in (plain, again)
    )
    return Plan(
        parameters=sum(p.numel() for p in task.parameters()),
        unit=unit,
        batch=count,
        forward_flops=plain.forward_flops / count,
        training_flops=plain.training_flops / count,
        memory=memory,
        job=job,
    )


def _replicated(
    task: nn.Module, once: Rehearsal, precision: Precision, job: Job, checkpointing: bool
) -> Memory:
    """Every device holds all (Li et al. 2020), and the gradients once more in the buckets that travel.

    Where they are views into these, they are there all the time, and not once more.
    """
    alone = job.devices == 1
    views = job.views and not alone
    return Memory(
        strategy="one device" if alone else "DDP",
        checkpointing=checkpointing,
        weights=once.weights * (1 + job.averages),
        gradients=once.gradients,
        optimizer=once.optimizer,
        exchange=0 if alone or views else once.gradients,
        activations=max(once.sharded_activations, once.stepping) if views else once.activations,
    )


def _sharded(
    task: nn.Module, once: Rehearsal, precision: Precision, job: Job, checkpointing: bool
) -> Memory:
    """Every device holds its share (Zhao et al. 2023), and gathers the weights of a block when it is at work.

    Gathered are then: what belongs to no block, from the first to the last; the block, and the next one ahead of time;
    the gradients of both but the one ahead.
    """
    blocks = [_bytes(part, precision) for part in units(task)]
    largest = max(blocks, default=0)
    rest = _bytes(task, precision) - sum(blocks)
    return Memory(
        strategy="FSDP",
        checkpointing=checkpointing,
        weights=math.ceil(once.weights / job.devices) + once.weights * job.averages,
        gradients=math.ceil(once.gradients / job.devices),
        optimizer=math.ceil(once.optimizer / job.devices),
        exchange=2 * rest + 3 * largest,
        activations=max(once.sharded_activations, math.ceil(once.stepping / job.devices)),
    )


def _bytes(module: nn.Module, precision: Precision) -> int:
    return sum(p.numel() for p in module.parameters()) * precision.weights.itemsize


def counted(batch: Any) -> tuple[str, int]:
    """What a batch is counted in, and how many: tokens (a translation's of both sides) or images."""
    layouts = [value for value in vars(batch).values() if isinstance(value, Layout)]
    if layouts:
        return "token", sum(int((layout.segments > 0).sum()) for layout in layouts)
    return "image", len(next(v for v in vars(batch).values() if isinstance(v, torch.Tensor)))
