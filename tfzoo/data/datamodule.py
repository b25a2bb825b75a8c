"""What every task's data has in common: where it is, its splits, its facts, its loaders."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.utils.data
from datasets import Dataset, Features, IterableDataset
from filelock import FileLock
from lightning import LightningDataModule
from torchdata.stateful_dataloader import StatefulDataLoader

from tfzoo.data import source
from tfzoo.data.broken import Flaws, NothingLeftError, Sieve, replaced_texts
from tfzoo.data.columns import odd_row
from tfzoo.data.encoding import cache_folder
from tfzoo.data.facts import Facts
from tfzoo.data.fingerprint import fingerprint
from tfzoo.data.mistakes import unreadable, unwritable
from tfzoo.data.sampling import Draw, distributed_share
from tfzoo.data.streaming import FetchedAhead, Split, Stream
from tfzoo.data.supposing import Suppositions
from tfzoo.signals import spare_worker

Sample = tuple[Draw, dict[str, Any]]


class Fetched(torch.utils.data.Dataset):
    """Rows of a `datasets.Dataset`, fetched for a whole batch of draws at once."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __getitems__(self, draws: list[Draw]) -> list[Sample]:
        columns = self.rows[[draw.sample for draw in draws]]
        rows = zip(*columns.values(), strict=True)
        return [
            (draw, dict(zip(columns, row, strict=True)))
            for draw, row in zip(draws, rows, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)


def by_row(samples: list[Sample]) -> list[list[Sample]]:
    """The samples of a batch, grouped into the rows that they are laid into."""
    return [list(row) for _, row in groupby(samples, key=lambda sample: sample[0].row)]


class TaskData(LightningDataModule):
    """The base of every task's data.

    A subclass says how to `learn` vocabularies or labels from training rows, `encode` rows,
    `describe` the encoded splits as facts, and cut an encoded split into `batches`. Streamed sets
    go through the same four steps, pool by pool.

    Args:
        path: an embedded set (interface, reviews, digits, shakespeare), a local file or folder, or
            a set on the hub.
        name: a hub set's configuration.
        train_split: what the set calls its training split.
        validation_split: what the set calls its validation split; without one, rows are held out
            from training.
        test_split: what the set calls its test split; without one, the validation split serves.
        validation_fraction: share of the training rows held out where there is no validation split.
        streaming: read rows as they are needed, for sets that do not fit; needs max_length.
        shuffle_buffer: rows read and shuffled at a time when streaming, and rows from which
            vocabularies are learned.
        skip_broken: leave samples out that cannot be used, and say how many, instead of refusing
            the first: a text that is missing, empty or no UTF-8, a label that is missing or that
            training has not, an image that cannot be read, a sample longer than max_length.
        workers: processes that prepare batches beside the training process; one at most for a
            stream.
        cache_dir: where prepared data is kept, by default where `datasets` keeps it.
        seed: of all that is random in the data, augmentation included.
    """

    whole_files = False  # whether a text file is one row rather than one row a line

    def __init__(
        self,
        path: str,
        name: str | None = None,
        train_split: str = "train",
        validation_split: str = "validation",
        test_split: str = "test",
        validation_fraction: float = 0.1,
        streaming: bool = False,
        shuffle_buffer: int = 10_000,
        skip_broken: bool = False,
        workers: int = 0,
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least("shuffle_buffer", shuffle_buffer, 1)
        at_least("workers", workers, 0)
        at_least("seed", seed, 0)
        if not 0 < validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must be between 0 and 1, not {validation_fraction}"
            )
        self.path, self.name = path, name
        self.split_names = (train_split, validation_split, test_split)
        self.validation_fraction = validation_fraction
        self.streaming, self.shuffle_buffer = streaming, shuffle_buffer
        self.sieve = Sieve(skip_broken)
        self.workers, self.cache_dir, self.seed = workers, cache_dir, seed
        self._facts: Facts | None = None
        self._encoded: dict[str, Any] = {}
        self._left_out: dict[str, int] = {}  # rows of a stream, so far
        self._splits: dict[str, Split | Stream] = {}
        self._rows: dict[str, Dataset] = {}
        self._fingerprints: dict[str, dict[str, Any]] = {}

    @abstractmethod
    def learn(self, rows: Dataset, cache: Path | None) -> None:
        """Learn from the training rows what encoding needs: columns, tokenizers, labels."""

    @abstractmethod
    def encode(self, rows: Dataset, split: str, cache: Path | None) -> Any:
        """The rows of a split as `describe` and `batches` take them; ValueError for unfit ones."""

    @abstractmethod
    def describe(self, encoded: dict[str, Any]) -> Facts:
        """The facts that hold over all encoded splits."""

    @abstractmethod
    def batches(self, encoded: Any, shuffle: bool, seed: int) -> Split:
        """An encoded split as batches, in random order (and augmented) if `shuffle`."""

    def rows(self, rows: source.Rows) -> source.Rows:
        """The rows as `learn` and `encode` want them; by default as they are."""
        return rows

    def flaws(self, rows: Dataset, cache: Path | None) -> Flaws:
        """The rows that nothing can be learned from, before anything is; by default none.

        What only learning tells, as `encode` may find, goes to `self.sieve` as well.
        """
        return {}

    def suppose(self, suppositions: Suppositions) -> Facts:
        """What the facts may be, as far as a plan needs them, without reading anything; by default it is read."""
        return self.facts

    def full_batch(self, facts: Facts) -> Any:
        """A training batch as large as any, for a plan; by default the first one."""
        return next(iter(self.train_dataloader()))

    @property
    def facts(self) -> Facts:
        """What the model must know of the data; reads and prepares the data at the first call."""
        if self._facts is None:
            self._prepare()
        assert self._facts is not None
        return self._facts

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Of each split the number of rows and a hash of what they say, the same on every machine.

        Of a stream the rows counted and hashed are the first `shuffle_buffer`.
        """
        self.facts  # noqa: B018
        hashes = {split: fingerprint(rows) for split, rows in self._rows.items()}
        return hashes | self._fingerprints

    def _prepare(self) -> None:
        cache = cache_folder(self.cache_dir)
        try:
            # Of several processes one prepares, and the others find it done.
            with FileLock(cache / "preparing.lock"):
                self._prepare_alone()
        except UnicodeDecodeError as error:
            raise unreadable(self.path, error) from error
        except OSError as error:
            if told := unwritable(cache, error):
                raise told from error
            raise

    def _prepare_alone(self) -> None:
        found = source.load(
            self.path,
            self.name,
            self.split_names,
            self.validation_fraction,
            self.streaming,
            self.cache_dir,
            self.whole_files,
            self.sieve.skip,
        )
        self.sieve.parts = found.parts
        try:
            sets = {split: self.rows(rows) for split, rows in found.items()}
        except ValueError as error:
            if odd := odd_row(found, str(error)):
                raise ValueError(f"{error}{odd}") from error
            raise
        cache = None if self.streaming else cache_folder(self.cache_dir)
        known = {s: self._sound(self._known(rows), s, cache) for s, rows in sets.items()}
        self.learn(known["train"], cache)
        encoded = {split: self.encode(rows, split, cache) for split, rows in known.items()}
        self._facts = self.describe(encoded)
        self.sieve.tell(self.streaming)
        self._left_out = {split: len(told) for split, told in self.sieve.left_out.items()}
        for split, rows in sets.items():
            if isinstance(rows, IterableDataset):
                make = partial(self._pool, split)
                self._splits[split] = Stream(rows, make, self.shuffle_buffer, self.path)
                self._fingerprints[split] = fingerprint(known[split]) | {"streamed": True}
            else:  # batches are planned (and images decoded) once the split's loader is asked for
                self._encoded[split], self._rows[split] = encoded[split], rows

    def _known(self, rows: source.Rows) -> Dataset:
        if isinstance(rows, Dataset):
            return rows
        return Dataset.from_list(source.first(rows, self.shuffle_buffer), features=rows.features)

    def _sound(self, rows: Dataset, split: str, cache: Path | None) -> Dataset:
        """The rows without those that are broken."""
        if self.sieve.skip:
            rows = self.sieve(rows, replaced_texts(rows), split)
        return self.sieve(rows, self.flaws(rows, cache), split)

    def _pool(
        self, split: str, rows: list[dict[str, Any]], features: Features, seed: int, number: int
    ) -> Split | None:
        """The rows of a stream's pool of that number as batches; None where all are left out."""
        pool = Dataset.from_list(rows, features=features)
        self.sieve = Sieve(self.sieve.skip, number * self.shuffle_buffer)
        try:
            encoded = self.encode(self._sound(pool, split, None), split, None)
        except NothingLeftError:
            return None
        finally:
            if 0 < number == seed:  # of the first pass, whose first pool was told of before
                before = self._left_out.get(split, 0)
                self._left_out[split] = self.sieve.tell_growth(split, before)
        return self.batches(encoded, split == "train", seed)

    def prepare_data(self) -> None:
        self.facts  # noqa: B018

    def setup(self, stage: str) -> None:
        self.facts  # noqa: B018

    def __getstate__(self) -> dict[str, Any]:
        # What travels to worker processes: the trainer does not, nor the splits themselves.
        return self.__dict__ | {"trainer": None, "_encoded": {}, "_splits": {}, "_rows": {}}

    def train_dataloader(self) -> StatefulDataLoader:
        return self._loader("train")

    def val_dataloader(self) -> StatefulDataLoader:
        return self._loader("validation")

    def test_dataloader(self) -> StatefulDataLoader:
        return self._loader("test")

    def predict_dataloader(self) -> StatefulDataLoader:
        return self._loader("test")

    def _loader(self, name: str) -> StatefulDataLoader:
        self.facts  # noqa: B018
        # StatefulDataLoader calls a function that torch deprecates.
        warnings.filterwarnings("ignore", "'set_vital' is deprecated")
        common: dict[str, Any] = {
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.workers > 0,
            "worker_init_fn": spare_worker,
            # Else each pass over a loader would draw from the chances of the training itself.
            "generator": torch.Generator().manual_seed(self.seed),
        }
        if name not in self._splits:
            self._splits[name] = self.batches(self._encoded[name], name == "train", self.seed)
        split = self._splits[name]
        if isinstance(split, Stream):
            split.share = distributed_share()  # known here, unknown to worker processes
            loader = StatefulDataLoader if self.trainer is None else FetchedAhead
            return loader(split, batch_size=None, num_workers=min(self.workers, 1), **common)
        return StatefulDataLoader(
            split.dataset,
            batch_sampler=split.sampler,
            collate_fn=split.collate,
            num_workers=self.workers,
            **common,
        )


def at_least(name: str, value: float, least: float) -> None:
    """Raises ValueError if an argument is below the least that makes sense."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
