"""Labelled texts: a text, or a pair of texts, and its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset

from tfzoo.data.batching import TextBatch, lay, padded_zeros, starts
from tfzoo.data.bpe_dropout import Redrawn
from tfzoo.data.broken import Flaws, missing_texts
from tfzoo.data.columns import TEXTS, column, labelled
from tfzoo.data.datamodule import Fetched, Sample, TaskData, by_row
from tfzoo.data.encoding import ids, lengths, tokenized, trained
from tfzoo.data.facts import Facts
from tfzoo.data.labels import class_names, class_numbers, missing_labels, unknown_labels
from tfzoo.data.limits import Limits
from tfzoo.data.source import Rows, is_text
from tfzoo.data.streaming import Split
from tfzoo.data.supposing import Suppositions
from tfzoo.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextFacts(Facts):
    """What a classifier of texts must know; longest counts <cls>, and a pair's <sep>.

    pairs: whether what is classified is a pair of texts.
    """

    tokenizer: Tokenizer
    labels: tuple[str, ...]
    longest: int
    pairs: bool

    def encode(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[list[int]]:
        """The ids that each text is fed as: <cls> and the text; of a pair, then <sep> and its second text.

        Raises ValueError where single texts are given for pairs, or the other way round.
        """
        wanted = _is_pair if self.pairs else _is_text
        if isinstance(texts, str) or not all(map(wanted, texts)):
            said = "pairs of texts" if self.pairs else "single texts"
            raise ValueError(
                f"this model was trained on {said}: it takes a list of those, and nothing else"
            )
        tokenizer = self.tokenizer
        columns: Any = zip(*texts, strict=True) if self.pairs else [texts]
        encoded = [tokenizer.encode_batch(column) for column in columns]
        marks = (tokenizer.cls, tokenizer.sep)
        return [
            [id for mark, ids in zip(marks[: len(row)], row, strict=True) for id in (mark, *ids)]
            for row in zip(*encoded, strict=True)
        ]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_text, value))


class _Encoded(NamedTuple):
    rows: Dataset
    labels: np.ndarray  # (N,)
    lengths: np.ndarray  # (N,) tokens as fed, before truncation


class TextClassificationData(TaskData):
    """Labelled texts as batches of tokens.

    Args:
        text: column of the texts; None for text, sentence, ... or else the first column of text.
        text_pair: column of the second text of a pair; None for single texts.
        label: column of the classes; None for label, labels, coarse_label.
        tokenizer: characters, bytes, bpe, or the path of a tokenizer.json.
        vocab_size: tokens of the vocabulary, at most.
        batch_tokens: tokens of a batch, padding included, at most.
        max_length: tokens of a text, special ones included, at most; None for no bound.
        truncate: cut longer texts instead of refusing them.
        packing: lay several texts into one row.
        bpe_dropout: probability of skipping a merge in training texts (BPE-dropout).
        common: what every task's data takes.
    """

    def __init__(
        self,
        path: str,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        tokenizer: str = "bpe",
        vocab_size: int = 8000,
        batch_tokens: int = 8192,
        max_length: int | None = None,
        truncate: bool = False,
        packing: bool = False,
        bpe_dropout: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        self.limits = Limits(
            batch_tokens, max_length, truncate, packing, bpe_dropout, self.streaming
        )
        self.text, self.text_pair, self.label = text, text_pair, label
        self.kind, self.vocab_size = tokenizer, vocab_size

    def rows(self, rows: Rows) -> Rows:
        features = rows.features
        self.text, self.label = labelled(features, self.text, TEXTS, is_text, "text", self.label)
        if self.text_pair is not None:
            self.text_pair = column(features, self.text_pair, (), is_text, "text_pair")
        return rows.select_columns([*self._texts(), self.label])

    def _texts(self) -> list[str]:
        return [name for name in (self.text, self.text_pair) if name is not None]

    def flaws(self, rows: Dataset, cache: Path | None) -> Flaws:
        return {
            **missing_labels(rows, str(self.label)),
            **missing_texts(rows, self._texts()),
        }

    def learn(self, rows: Dataset, cache: Path | None) -> None:
        self.names = class_names(rows, str(self.label))
        self.tokenizer = trained(self.kind, rows, self._texts(), self.vocab_size, cache)

    def encode(self, rows: Dataset, split: str, cache: Path | None) -> _Encoded:
        label = str(self.label)
        rows = self.sieve(rows, unknown_labels(rows, label, self.names), split)
        encoded = tokenized(rows, dict.fromkeys(self._texts(), self.tokenizer), split, cache)
        if self.sieve.skip:
            too_long = self.limits.too_long(self._fed(encoded), split)
            encoded = self.sieve(encoded, too_long, split)
        fed = self._fed(encoded)
        self.limits.check(fed, split, report=self._facts is None)
        return _Encoded(encoded, class_numbers(encoded, label, self.names), fed)

    def _fed(self, encoded: Dataset) -> np.ndarray:
        """(N,) tokens that each text, or pair of texts, is fed as."""
        return np.sum([1 + lengths(encoded, name) for name in self._texts()], axis=0)

    def describe(self, encoded: dict[str, _Encoded]) -> TextFacts:
        longest = max(int(self.limits.longest(split.lengths)) for split in encoded.values())
        return TextFacts(self.tokenizer, self.names, longest, self.text_pair is not None)

    def suppose(self, suppositions: Suppositions) -> TextFacts:
        longest = suppositions.longest(self.limits.max_length, self.limits.batch_tokens)
        tokenizer = suppositions.tokenizer(self.kind, self.vocab_size)
        return TextFacts(tokenizer, suppositions.labels(2), longest, self.text_pair is not None)

    def full_batch(self, facts: TextFacts) -> TextBatch:  # type: ignore[override]
        rows = self.limits.rows(facts.longest)
        tokens, layout = padded_zeros(rows, facts.longest)
        labels = torch.zeros(rows, dtype=torch.long)
        first = torch.arange(rows) * facts.longest
        return TextBatch(tokens, layout, first, labels, [""] * rows)

    def batches(self, encoded: _Encoded, shuffle: bool, seed: int) -> Split:
        sampler = self.limits.sampler(encoded.lengths, shuffle, seed)
        draw = self.limits.redrawn(seed) if shuffle else None
        rows = encoded.rows.remove_columns(str(self.label))
        collate = _Texts(tuple(self._texts()), self.tokenizer, encoded.labels, self.limits, draw)
        return Split(Fetched(rows), sampler, collate)


@dataclass(frozen=True)
class _Texts:
    """Collates rows of one column of text, or two."""

    columns: tuple[str, ...]
    tokenizer: Tokenizer
    labels: np.ndarray
    limits: Limits
    redrawn: Redrawn | None

    def __call__(self, samples: list[Sample]) -> TextBatch:
        rows = [[self._fed(sample) for sample in row] for row in by_row(samples)]
        tokens, layout = lay(rows, self.tokenizer.pad)
        labels = torch.from_numpy(self.labels[[draw.sample for draw, _ in samples]])
        text = ["\n".join(row[name] for name in self.columns) for _, row in samples]
        return TextBatch(tokens, layout, starts(rows, tokens.shape[1]), labels, text)

    def _fed(self, sample: Sample) -> list[int]:
        draw, row = sample
        fed: list[int] = []
        for mark, name in zip((self.tokenizer.cls, self.tokenizer.sep), self.columns, strict=False):
            usual = row[ids(name)]
            again = (
                self.redrawn(self.tokenizer, row[name], usual, draw, None)
                if self.redrawn
                else usual
            )
            fed += [mark, *again]
        return fed[: self.limits.max_length]
