"""Learning rates over time, and which weights decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
"""Parameters, or groups of them, to an optimiser."""


class Schedule:
    """The learning rate at a step as a share of the optimiser's `lr`, which is the peak.

    Args:
        warmup: steps over which it rises linearly from 0.
        total: optimiser steps of the whole training; none: trainer.max_steps.
    """

    def __init__(self, warmup: int = 0, total: int | None = None) -> None:
        if warmup < 0:
            raise ValueError(f"warmup must not be negative, as {warmup} is")
        if total is not None and total < 1:
            raise ValueError(f"total must be at least 1 step, not {total}")
        self.warmup, self.total = warmup, total

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


class Constant(Schedule):
    """After the warmup, always the peak."""

    def after_warmup(self, step: int, total: int) -> float:
        return 1.0


class InverseSquareRoot(Schedule):
    """Warmup, then proportional to 1 / sqrt(step) (Vaswani et al. 2017, section 5.3).

    The paper's peak is (D * warmup)^-0.5, 7e-4 for the base model.
    """

    def __init__(self, warmup: int = 4000, total: int | None = None) -> None:
        super().__init__(warmup, total)

    def after_warmup(self, step: int, total: int) -> float:
        return math.sqrt(max(1, self.warmup) / (step + 1))


class Falling(Schedule):
    """A schedule that ends at a share of the peak.

    Args:
        warmup: steps over which it rises linearly from 0.
        final: the share it ends at.
        total: optimiser steps of the whole training; none: trainer.max_steps.
    """

    def __init__(self, warmup: int = 0, final: float = 0.0, total: int | None = None) -> None:
        super().__init__(warmup, total)
        self.final = final

    def after_warmup(self, step: int, total: int) -> float:
        return self.final + (1 - self.final) * self.fall(self.progress(step, total))

    def fall(self, progress: float) -> float:
        """From 1 to 0 while `progress` goes from 0 to 1."""
        raise NotImplementedError


class Linear(Falling):
    """Warmup, then a straight line to `final` (Devlin et al. 2019)."""

    def fall(self, progress: float) -> float:
        return 1 - progress


class Cosine(Falling):
    """Warmup, then half a cosine to `final` (Loshchilov and Hutter 2017)."""

    def fall(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))


class WarmupStableDecay(Falling):
    """Warmup, the peak, and a straight line to `final` at the end (Hu et al. 2024).

    Args:
        decay: share of the steps after the warmup that the line takes.
    """

    def __init__(
        self, warmup: int = 0, final: float = 0.0, decay: float = 0.2, total: int | None = None
    ) -> None:
        super().__init__(warmup, final, total)
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be in (0, 1], not {decay}")
        self.decay = decay

    def fall(self, progress: float) -> float:
        return min(1.0, (1 - progress) / self.decay)


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
