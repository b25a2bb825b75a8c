"""Which samples make which batch: by count, by a budget of tokens, or packed into rows.

Every sampler draws the same number of batches in every epoch and on every process, and each sample exactly once an
epoch over all processes together. Step s of W processes takes batches s*W to s*W + W - 1, so that W processes see what
one process sees that accumulates over W batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One sample of a batch: which, in which epoch (the seed of its augmentation), and in which row it is laid."""

    index: int
    epoch: int
    row: int


class Plan(NamedTuple):
    """The shape of an epoch, the same for all epochs: places, to which samples of their kind are assigned anew.

    kinds: (N,) the kind of each sample (such as its length); places: (N,) the kind of each place; rows: (N,) the row of
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
        # Lightning announces epochs to `loader.batch_sampler.sampler`, never to a batch sampler itself.
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
        """(K, 2) first and last place of each batch, batches halved until their number divides by the processes'."""
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
    """One pass over the batches of one process; planned at its first step, when the epoch is known for certain."""

    def __init__(self, sampler: PlannedSampler) -> None:
        self.sampler, self.position, self.epoch = sampler, 0, -1

    def state_dict(self) -> dict[str, int]:
        epoch = self.epoch if self.epoch >= 0 else self.sampler.epoch
        return {"epoch": epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position, self.epoch = state["position"], -1
        self.sampler.epoch = state["epoch"]
        if self.position >= len(self.sampler):  # a finished epoch: what follows is the next one
            self.sampler.epoch += 1
        else:
            self._begin()

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
            self.sampler.epoch += 1  # without a trainer to announce it, the next pass is still a fresh one
        rows = self.sampler.plan.rows[start:stop].tolist()
        return [
            Draw(index, self.epoch, row)
            for index, row in zip(self._samples[start:stop].tolist(), rows, strict=True)
        ]


def distributed_share() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class CountSampler(PlannedSampler):
    """Batches of `batch_size` of `count` samples; the last one holds the rest."""

    def __init__(self, count: int, batch_size: int, shuffle: bool = False, seed: int = 0) -> None:
        _positive("batch_size", batch_size)
        bounds = np.append(np.arange(0, count, batch_size), count)
        zeros = np.zeros(count, np.int64)
        super().__init__(Plan(zeros, zeros, np.arange(count), bounds), shuffle, seed)


class TokenBudgetSampler(PlannedSampler):
    """Batches of samples of like length, padded to at most `budget` tokens.

    lengths: (N,) tokens of each sample, or (N, 2) of its source and target: rows times the longest fits the budget on
    either side. Lengths are rounded up into buckets an eighth apart, so that samples of a bucket mix.
    Raises ValueError naming the first sample longer than the budget.
    """

    def __init__(
        self, lengths: Sequence[int] | np.ndarray, budget: int, shuffle: bool = False, seed: int = 0
    ) -> None:
        longest = _longest(lengths, budget)
        buckets = np.minimum(_bucket(longest), budget)
        places = np.sort(buckets)[::-1]
        bounds = [0]
        while bounds[-1] < len(places):
            bounds.append(min(len(places), bounds[-1] + budget // int(places[bounds[-1]])))
        plan = Plan(buckets, places, np.arange(len(places)), np.array(bounds))
        super().__init__(plan, shuffle, seed)


class PackingSampler(PlannedSampler):
    """Batches of rows of `width` tokens, each row filled with as many whole samples as fit (best fit, longest first).

    lengths: as for TokenBudgetSampler; budget // width rows make a batch.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        budget: int,
        width: int,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        longest = _longest(lengths, min(budget, width))
        rows = pack(np.sort(longest)[::-1], width)
        chance = np.random.default_rng(seed)
        rows = [rows[k] for k in chance.permutation(len(rows))]  # no batch of leftovers only
        places = np.array([length for row in rows for length in row], np.int64)
        starts = np.cumsum([0, *map(len, rows)])
        bounds = np.append(starts[: -1 : budget // width], starts[-1])
        owner = np.repeat(np.arange(len(rows)), list(map(len, rows)))
        super().__init__(Plan(longest, places, owner, bounds), shuffle, seed)


def pack(lengths: np.ndarray, width: int) -> list[list[int]]:
    """Best-fit: each length, in the given order, into the fullest row that has room for it. Returns the rows."""
    rows: list[list[int]] = []
    room: list[list[int]] = [[] for _ in range(width + 1)]  # room[r]: the rows with r tokens free
    for length in lengths.tolist():
        free = next((r for r in range(length, width + 1) if room[r]), None)
        if free is None:
            free, row = width, len(rows)
            rows.append([])
        else:
            row = room[free].pop()
        rows[row].append(length)
        room[free - length].append(row)
    return rows


def _longest(lengths: Sequence[int] | np.ndarray, budget: int) -> np.ndarray:
    _positive("batch_tokens", budget)
    sides = np.asarray(lengths, np.int64)
    longest = sides.max(axis=1) if sides.ndim == 2 else sides
    over = np.flatnonzero(longest > budget)
    if len(over):
        raise ValueError(
            f"sample {over[0]} has {longest[over[0]]} tokens, more than the {budget} of a whole batch: "
            "raise batch_tokens, or set max_length and truncate"
        )
    return np.maximum(longest, 1)


def _bucket(lengths: np.ndarray) -> np.ndarray:
    """Each length rounded up to a multiple of about an eighth of itself; lengths up to 16 stay."""
    step = 2 ** np.maximum(0, np.floor(np.log2(np.maximum(lengths, 1))) - 3).astype(np.int64)
    return -(-lengths // step) * step


def _positive(name: str, value: int) -> None:
    if value <= 0:
        raise ValueError(f"{name} must be positive, not {value}")
