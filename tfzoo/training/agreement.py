"""What one process of a training learns for itself, all of them act upon at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


class Agreement:
    """Facts that any process may report, each known to all of them one call later.

    Every process calls `told` at the same places. The exchange runs beside the training, on the hosts' processors
    (gloo), so that no step waits for it and no GPU is read.
    """

    def __init__(self) -> None:
        self.group: Any = None
        self.pending: tuple[Any, torch.Tensor] | None = None

    def begin(self) -> None:
        """To be called by all processes, when they are connected."""
        if dist.is_initialized() and dist.get_world_size() > 1:
            self.group = dist.new_group(backend="gloo")

    def told(self, facts: Sequence[bool]) -> list[bool]:
        """Which of the facts any process has reported before; of a process that is alone, those of now."""
        if self.group is None:
            return list(facts)
        before = self._arrived() or [False] * len(facts)
        values = torch.tensor(list(facts), dtype=torch.uint8)
        work = dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group, async_op=True)
        self.pending = work, values
        return before

    def end(self) -> None:
        """Waits for what is still on its way: gloo must not be torn down under it."""
        if self.group is not None:
            self._arrived()
            self.group = None

    def _arrived(self) -> list[bool] | None:
        if self.pending is None:
            return None
        work, values = self.pending
        self.pending = None
        work.wait()
        return [bool(value) for value in values]
