"""Sets that do not fit: rows read as needed, and batched pool by pool as a small set is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch.utils.data
from datasets import Features
from datasets import IterableDataset as Rows
from torchdata.stateful_dataloader import StatefulDataLoader

from tfzoo.data.batching import Batch
from tfzoo.data.mistakes import unreadable
from tfzoo.data.sampling import PlannedSampler

# The state of the rows before it (None at the start), and its rows.
Pool = tuple[dict[str, Any] | None, list[dict[str, Any]]]


@dataclass(frozen=True)
class Split:
    """Samples as batches: `collate` makes one of the samples of `dataset` that `sampler` draws."""

    dataset: Any  # fetches all samples of a batch at once: `__getitems__(draws)`
    sampler: PlannedSampler
    collate: Callable[[Any], Batch]


class Stream(torch.utils.data.IterableDataset):
    """The batches of a streamed split.

    make(rows, features, seed, number) gives the batches of one pool, or None. Every process reads all rows and takes
    its share of each pool's batches, so that all have equally many and each row counts once; of
    several workers each makes every so manieth pool. Saved and restored between any two batches.
    """

    def __init__(
        self,
        rows: Rows,
        make: Callable[[list[dict[str, Any]], Features, int, int], Split | None],
        pool: int,
        path: str,
    ) -> None:
        self.rows, self.make, self.pool, self.path = rows, make, pool, path
        self.share, self.epoch = (0, 1), 0

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return _Pass(self, epoch)


class _Pass(Iterator[Batch]):
    """One pass over a stream: its epoch, its pool, and the batches taken from that pool."""

    def __init__(self, stream: Stream, epoch: int) -> None:
        self.stream, self.epoch = stream, epoch
        self._begin(None, 0, 0)

    def _begin(self, rows_state: dict[str, Any] | None, number: int, taken: int) -> None:
        self.rows_state, self.number, self.taken = rows_state, number, taken
        self._batches = self._read()

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "rows": self.rows_state,
            "number": self.number,
            "taken": self.taken,
            "processes": self.stream.share[1],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.stream.epoch = self.epoch + 1
        # Saved on another number of processes: what all of them have taken is done.
        ours = self.stream.share[1]
        taken = state["taken"] * state.get("processes", ours) // ours
        self._begin(state["rows"], state["number"], taken)

    def __next__(self) -> Batch:
        return next(self._batches)

    def _read(self) -> Iterator[Batch]:
        stream, skip = self.stream, self.taken
        if torch.utils.data.get_worker_info():
            # Threads of tokenizers do not survive a fork; without this it says so at length.
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        for number, (state, rows) in enumerate(self._pools(), start=self.number):
            self.rows_state, self.number, self.taken = state, number, skip
            seed = self.epoch * 1_000_003 + number
            split = stream.make(rows, stream.rows.features, seed, number)
            if split is None:
                continue
            split.sampler.share = stream.share
            for draws in islice(iter(split.sampler), skip, None):
                self.taken += 1
                yield split.collate(split.dataset.__getitems__(draws))
            skip = 0

    def _pools(self) -> Iterator[Pool]:
        """The pools from where the pass stands; a short last one joins the one before it."""
        rows = deepcopy(self.stream.rows)
        if self.rows_state is not None:
            rows.load_state_dict(self.rows_state)
        # Not by iter(rows): in a worker process that would give a part of the rows.
        source, after = rows.iter(self.stream.pool), self.rows_state
        held: Pool | None = None
        while True:
            state = after
            try:
                columns: dict[str, list[Any]] = next(source, {})
            except UnicodeDecodeError as error:
                raise unreadable(self.stream.path, error) from error
            pool = [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
            after = deepcopy(rows.state_dict())
            if held and len(pool) < self.stream.pool:
                yield held[0], held[1] + pool
                return
            if held:
                yield held
            if len(pool) < self.stream.pool:
                if pool:
                    yield state, pool
                return
            held = state, pool


class FetchedAhead(StatefulDataLoader):
    """A stateful loader whose state is that before its latest batch.

    Lightning fetches one batch ahead of training from a loader of unknown length, and saves the
    loader's state as it is then: the batch in between would be lost to a resumed run.
    """

    _before: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Batch]:
        batches = super().__iter__()
        while True:
            before = super().state_dict()
            try:
                batch = next(batches)
            except StopIteration:
                self._before = None
                return
            self._before = before
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return self._before or super().state_dict()
