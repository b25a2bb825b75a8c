"""Which samples make which batch: by count, by a budget of tokens, or packed into rows.

Every sampler draws the same number of batches in every epoch and on every process, and each sample
exactly once an epoch over all processes together. Step s of W processes takes batches s*W to s*W +
W - 1, so that W processes see what one process sees that accumulates over W batches. Where the
batches of an epoch do not share out evenly, the last of them are halved until they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

EVEN = 8
"""Evaluation reads the same batches on 1, 2, 4 and 8 processes: its figures agree to the last bit."""


class Draw(NamedTuple):
    """A sample of a batch: which, in which epoch (its augmentation's seed), laid in which row."""

    sample: int
    epoch: int
    row: int


class Plan(NamedTuple):
    """The shape of every epoch: places, to which samples of their kind are assigned anew.

    kinds: (N,) the kind of each sample (such as its length); places: (N,) the kind of each place;
    rows: (N,) the row of each place, not decreasing; bounds: (K+1,) batch k holds places bounds[k] to bounds[k+1];
    lean: (N,) by which samples of a kind are ordered, but for some chance (`MIXED`); all alike, they come in any order.
    """

    kinds: np.ndarray
    places: np.ndarray
    rows: np.ndarray
    bounds: np.ndarray
    lean: np.ndarray


MIXED = 0.3
"""Of the standard deviation of leans. Of Multi30k's pairs at 4,096 tokens a batch a third then meet again in the next
epoch, and 4.8 % of the tokens are padding; without order a seventh and 8 %, without chance more than half and 3.8 %."""


class PlannedSampler(Sampler[list[Draw]]):
    """A batch sampler that follows a plan.

    shuffle: assign samples to places and order the batches at random, differently in each epoch.
    Its position inside an epoch is saved and restored by torchdata's StatefulDataLoader.
    """

    def __init__(self, plan: Plan, shuffle: bool = False, seed: int = 0) -> None:
        self.plan, self.shuffle, self.seed, self.epoch = plan, shuffle, seed, 0
        self.share: tuple[int, int] | None = None  # (rank, processes); None: ask torch.distributed
        self._by_kind = np.argsort(plan.places, kind="stable")

    @property
    def sampler(self) -> PlannedSampler:
        # Lightning announces epochs to `loader.batch_sampler.sampler`, never to a batch sampler
        # itself.
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch = state["epoch"]

    def __iter__(self) -> Iterator[list[Draw]]:
        return _Epoch(self)

    def __len__(self) -> int:
        """Batches of this process in one epoch."""
        return self._count() // self._share()[1]

    def _share(self) -> tuple[int, int]:
        return self.share or distributed_share()

    def _count(self) -> int:
        """Batches of all processes in one epoch. Raises ValueError where there are too few samples."""
        processes, batches = self._share()[1], len(self.plan.bounds) - 1
        rows = int(self.plan.rows[-1]) + 1 if len(self.plan.rows) else 0
        count = _rounded_up(batches, processes)
        if not self.shuffle:
            even = _rounded_up(batches, _rounded_up(EVEN, processes))
            count = even if even <= rows else count
        if count > rows:
            raise ValueError(
                f"{len(self.plan.kinds)} samples are too few to share among {processes} processes"
            )
        return count

    def assign(self, epoch: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """The sample at each place, (N,), and first and last place of every batch of an epoch, in order."""
        chance = np.random.default_rng((self.seed, epoch))
        kinds, bounds = self.plan.kinds, self.plan.bounds
        mixed = chance.permutation(len(kinds)) if self.shuffle else np.arange(len(kinds))
        batches = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        count, first = self._count(), 0
        if self.shuffle:
            batches = [batches[k] for k in chance.permutation(len(batches))]
            # Whole steps stay what they are on any number of processes.
            first = len(batches) - len(batches) % self._share()[1]
        lean = self.plan.lean[mixed]
        if self.shuffle and len(lean):
            lean = lean + MIXED * lean.std() * chance.uniform(-1, 1, len(kinds))
        samples = np.empty(len(kinds), np.int64)
        samples[self._by_kind] = mixed[np.lexsort((lean, kinds[mixed]))]
        return samples, _halved(batches, self.plan.rows, count, first)


def _halved(
    batches: list[tuple[int, int]], rows: np.ndarray, count: int, first: int
) -> list[tuple[int, int]]:
    """The batches, those from number `first` on halved between rows, largest first, until there are `count`."""

    def size(k: int) -> int:
        return int(rows[batches[k][1] - 1] - rows[batches[k][0]])

    while len(batches) < count:
        largest = max(range(first, len(batches)), key=size, default=-1)
        if largest < 0 or not size(largest):
            first -= 1
            continue
        start, stop = batches[largest]
        changes = start + 1 + np.flatnonzero(np.diff(rows[start:stop]))
        middle = int(changes[len(changes) // 2])
        batches[largest : largest + 1] = [(start, middle), (middle, stop)]
    return batches


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class _Epoch(Iterator[list[Draw]]):
    """One pass over the batches of one process; planned at its first step, its epoch known."""

    def __init__(self, sampler: PlannedSampler) -> None:
        self.sampler, self.position, self.epoch = sampler, 0, -1

    def state_dict(self) -> dict[str, int]:
        epoch = self.epoch if self.epoch >= 0 else self.sampler.epoch
        processes = self.sampler._share()[1]
        return {"epoch": epoch, "position": self.position, "processes": processes}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.sampler.epoch = -1, state["epoch"]
        # Saved on another number of processes: what all of them have taken is done, as far as ours can share it.
        ours = self.sampler._share()[1]
        self.position = state["position"] * state.get("processes", ours) // ours
        if self.position < len(self.sampler):
            self._begin()
        else:  # saved after an epoch's last batch: what follows is the next epoch
            self.position = 0
            self.sampler.epoch += 1

    def _begin(self) -> None:
        self.epoch = self.sampler.epoch
        self._samples, self._batches = self.sampler.assign(self.epoch)

    def __next__(self) -> list[Draw]:
        if self.position >= len(self.sampler):
            raise StopIteration
        if self.epoch < 0:
            self._begin()
        rank, processes = self.sampler._share()
        start, stop = self._batches[self.position * processes + rank]
        self.position += 1
        if self.position == len(self.sampler) and self.sampler.epoch == self.epoch:
            self.sampler.epoch += (
                1  # without a trainer to announce it, the next pass is still a fresh one
            )
        rows = self.sampler.plan.rows[start:stop].tolist()
        return [
            Draw(sample, self.epoch, row)
            for sample, row in zip(self._samples[start:stop].tolist(), rows, strict=True)
        ]


def distributed_share() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
