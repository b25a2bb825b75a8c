"""Learning rates over time, and which weights decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
"""Parameters, or groups of them, to an optimiser."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate at a step as a share of the optimiser's `lr`, which is the peak.

    Args:
        warmup: steps over which it rises linearly from 0.
        total: optimiser steps of the whole training; none: trainer.max_steps.
    """

    warmup: int = 0
    total: int | None = None

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, as {self.warmup} is")
        if self.total is not None and self.total < 1:
            raise ValueError(f"total must be at least 1 step, not {self.total}")

    def at(self, step: int, total: int) -> float:
        """The share at `step`, counted from 0, of `total`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.after_warmup(step, total)

    def after_warmup(self, step: int, total: int) -> float:
        raise NotImplementedError

    def progress(self, step: int, total: int) -> float:
        """From 0 at the end of the warmup to 1 at the end of training."""
        return min(1.0, (step - self.warmup) / max(1, total - self.warmup))


@dataclass(frozen=True)
class Constant(Schedule):
    """After the warmup, always the peak."""

    def after_warmup(self, step: int, total: int) -> float:
        return 1.0


@dataclass(frozen=True)
class InverseSquareRoot(Schedule):
    """Warmup, then proportional to 1 / sqrt(step) (Vaswani et al. 2017, section 5.3).

    The paper's peak is (D * warmup)^-0.5, 7e-4 for the base model.
    """

    warmup: int = 4000

    def after_warmup(self, step: int, total: int) -> float:
        return math.sqrt(max(1, self.warmup) / (step + 1))


@dataclass(frozen=True)
class Linear(Schedule):
    """Warmup, then in a straight line to `final` (Devlin et al. 2019)."""

    final: float = 0.0

    def after_warmup(self, step: int, total: int) -> float:
        return 1 - (1 - self.final) * self.progress(step, total)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Warmup, then half a cosine to `final` (Loshchilov and Hutter 2017)."""

    final: float = 0.0

    def after_warmup(self, step: int, total: int) -> float:
        wave = 0.5 * (1 + math.cos(math.pi * self.progress(step, total)))
        return self.final + (1 - self.final) * wave


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Warmup, the peak, and over the last `decay` share of training a straight line to `final` (Hu et al. 2024)."""

    decay: float = 0.2
    final: float = 0.0

    def after_warmup(self, step: int, total: int) -> float:
        done = max(0.0, self.progress(step, total) - (1 - self.decay)) / max(self.decay, 1e-9)
        return 1 - (1 - self.final) * done


def decay_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Two groups of parameters: matrices, which decay as the optimiser says, and the rest, which do not.

    Decaying a bias, a norm's gain or a class token only pulls it away from what it has to be.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() >= 2]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def scheduled(optimizer: Optimizer, schedule: Schedule, max_steps: int) -> dict[str, Any]:
    """What `configure_optimizers` returns. The length of training comes from the config alone.

    Raises ValueError where the schedule needs that length and neither it nor the trainer says it.
    """
    total = schedule.total or max_steps
    if total < 1 and not isinstance(schedule, Constant | InverseSquareRoot):
        raise ValueError(
            f"{type(schedule).__name__} must know where training ends: set trainer.max_steps, "
            "or the schedule's total"
        )
    scheduler = LambdaLR(optimizer, lambda step: schedule.at(step, total))
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"},
    }
