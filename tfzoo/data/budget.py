"""Plans of batches: by count, by a budget of tokens, or packed into rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfzoo.data.sampling import Plan, PlannedSampler


class CountSampler(PlannedSampler):
    """Batches of `batch_size` of `count` samples; the last one holds the rest."""

    def __init__(self, count: int, batch_size: int, shuffle: bool = False, seed: int = 0) -> None:
        _positive("batch_size", batch_size)
        bounds = np.append(np.arange(0, count, batch_size), count)
        zeros = np.zeros(count, np.int64)
        super().__init__(Plan(zeros, zeros, np.arange(count), bounds, zeros), shuffle, seed)


class TokenBudgetSampler(PlannedSampler):
    """Batches of samples of like length, padded to at most `budget` tokens.

    lengths: (N,) tokens of each sample, or (N, 2) of its source and target: rows times the longest
        fits the budget on either side. Lengths are rounded up into buckets an eighth apart, so that samples of a
        bucket mix; pairs of a bucket mix with those that lean to the same side, by about as many tokens.
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
        rows, lean = np.arange(len(places)), _lean(np.asarray(lengths), buckets)
        super().__init__(Plan(buckets, places, rows, np.array(bounds), lean), shuffle, seed)


class PackingSampler(PlannedSampler):
    """Batches of rows of `width` tokens, each filled with as many whole samples as fit.

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
        super().__init__(
            Plan(longest, places, owner, bounds, np.zeros(len(longest))), shuffle, seed
        )


def pack(lengths: np.ndarray, width: int) -> list[list[int]]:
    """Best fit: each length in turn into the fullest row that has room for it. Returns the rows."""
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
            f"sample {over[0]} has {longest[over[0]]} tokens, "
            f"more than the {budget} of a whole batch: "
            "raise batch_tokens, or set max_length and truncate"
        )
    return np.maximum(longest, 1)


def _lean(lengths: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """By how many tokens the source of each pair is longer than its target, (N,); what is no pair does not lean.

    Every other bucket is turned round, so that neighbours are alike from one bucket to the next, where a batch may end
    the one and begin the other.
    """
    if lengths.ndim == 1:
        return np.zeros(len(lengths))
    _, bucket = np.unique(buckets, return_inverse=True)
    return (lengths[:, 0] - lengths[:, 1]) * (-1) ** bucket


def _bucket(lengths: np.ndarray) -> np.ndarray:
    """Each length rounded up to a multiple of about an eighth of itself; lengths up to 16 stay."""
    step = 2 ** np.maximum(0, np.floor(np.log2(np.maximum(lengths, 1))) - 3).astype(np.int64)
    return -(-lengths // step) * step


def _positive(name: str, value: int) -> None:
    if value <= 0:
        raise ValueError(f"{name} must be positive, not {value}")
