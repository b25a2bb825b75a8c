"""Which samples make which batch: by count, by a budget of tokens, or packed into rows.

Every sampler draws the same number of batches in every epoch and on every process, and each sample
exactly once an epoch over all processes together. Step s of W processes takes batches s*W to s*W +
W - 1, so that W processes see what one process sees that accumulates over W batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """A sample of a batch: which, in which epoch (its augmentation's seed), laid in which row."""

    sample: int
    epoch: int
    row: int


class Plan(NamedTuple):
    """The shape of every epoch: places, to which samples of their kind are assigned anew.

    kinds: (N,) the kind of each sample (such as its length); places: (N,) the kind of each place;
        rows: (N,) the row of
    each place, not decreasing; bounds: (K+1,) batch k holds places bounds[k] to bounds[k+1].
    """

    kinds: np.ndarray
    places: np.ndarray
    rows: np.ndarray
    bounds: np.ndarray


class PlannedSampler(Sampler[list[Draw]]):
    """A batch sampler that follows a plan.

    shuffle: assign samples to places and order the batches at random, differently in each epoch.
    Its position inside an epoch is saved and restored by torchdata's StatefulDataLoader.
    """

    def __init__(self, plan: Plan, shuffle: bool = False, seed: int = 0) -> None:
        self.plan, self.shuffle, self.seed, self.epoch = plan, shuffle, seed, 0
        self.share: tuple[int, int] | None = None  # (rank, processes); None: ask torch.distributed
        self._by_kind = np.argsort(plan.places, kind="stable")
        self._bounds: dict[int, np.ndarray] = {}

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
        return len(self.bounds()) // self._share()[1]

    def _share(self) -> tuple[int, int]:
        return self.share or distributed_share()

    def bounds(self) -> np.ndarray:
        """(K, 2) first and last place of each batch, halved until all processes get as many."""
        processes = self._share()[1]
        if processes not in self._bounds:
            self._bounds[processes] = self._divide(processes)
        return self._bounds[processes]

    def _divide(self, processes: int) -> np.ndarray:
        plan = self.plan
        pieces = list(zip(plan.bounds[:-1].tolist(), plan.bounds[1:].tolist(), strict=True))
        while len(pieces) % processes:
            largest = max(range(len(pieces)), key=lambda k: pieces[k][1] - pieces[k][0])
            start, stop = pieces[largest]
            changes = start + 1 + np.flatnonzero(np.diff(plan.rows[start:stop]))
            if len(changes) == 0:
                raise ValueError(
                    f"{len(plan.kinds)} samples are too few to share among {processes} processes"
                )
            middle = int(changes[len(changes) // 2])
            pieces[largest : largest + 1] = [(start, middle), (middle, stop)]
        return np.array(pieces)

    def assign(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The sample at each place, (N,), and the order of the batches, (K,), in an epoch."""
        chance = np.random.default_rng((self.seed, epoch))
        kinds, count = self.plan.kinds, len(self.bounds())
        mixed = chance.permutation(len(kinds)) if self.shuffle else np.arange(len(kinds))
        order = chance.permutation(count) if self.shuffle else np.arange(count)
        samples = np.empty(len(kinds), np.int64)
        samples[self._by_kind] = mixed[np.argsort(kinds[mixed], kind="stable")]
        return samples, order


class _Epoch(Iterator[list[Draw]]):
    """One pass over the batches of one process; planned at its first step, its epoch known."""

    def __init__(self, sampler: PlannedSampler) -> None:
        self.sampler, self.position, self.epoch = sampler, 0, -1

    def state_dict(self) -> dict[str, int]:
        epoch = self.epoch if self.epoch >= 0 else self.sampler.epoch
        return {"epoch": epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position, self.epoch, self.sampler.epoch = state["position"], -1, state["epoch"]
        if self.position < len(self.sampler):
            self._begin()
        else:  # saved after an epoch's last batch: what follows is the next epoch
            self.position = 0
            self.sampler.epoch += 1

    def _begin(self) -> None:
        self.epoch = self.sampler.epoch
        self._samples, self._order = self.sampler.assign(self.epoch)
        self._bounds = self.sampler.bounds()

    def __next__(self) -> list[Draw]:
        if self.position >= len(self.sampler):
            raise StopIteration
        if self.epoch < 0:
            self._begin()
        rank, processes = self.sampler._share()
        start, stop = self._bounds[self._order[self.position * processes + rank]].tolist()
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
