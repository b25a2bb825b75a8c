"""Parallel text: pairs of sentences in two languages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from tfzoo.data.batching import IGNORE, TranslationBatch, lay, padded_zeros
from tfzoo.data.bpe_dropout import Redrawn
from tfzoo.data.broken import Flaws, missing_texts
from tfzoo.data.columns import column, unnest
from tfzoo.data.datamodule import Fetched, Sample, TaskData, by_row
from tfzoo.data.encoding import ids, lengths, tokenized, trained
from tfzoo.data.facts import Facts
from tfzoo.data.limits import Limits
from tfzoo.data.source import Rows, is_text
from tfzoo.data.streaming import Split
from tfzoo.data.supposing import Suppositions
from tfzoo.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class TranslationFacts(Facts):
    """What a translator must know.

    bleu_tokenize: sacrebleu's tokenization for the target language; longest_source counts <eos>,
        longest_target <bos>
    or <eos> (a target is fed with one of them).
    """

    source: Tokenizer
    target: Tokenizer
    bleu_tokenize: str
    longest_source: int
    longest_target: int


class TranslationData(TaskData):
    """Parallel text as batches of source and target sentences.

    Args:
        source: column of the sentences to translate; None for the first column of text. In WMT's
            form (one column `translation` of both languages), and of a folder with a file for each language
            (`train.en`, `train.de`), the language, such as `de`.
        target: column of the translations; None for the second column of text.
        tokenizer: characters, bytes, bpe, or the path of a tokenizer.json.
        vocab_size: tokens of each vocabulary, at most.
        shared_vocabulary: one tokenizer, trained on both sides.
        target_tokenizer: as tokenizer, for the target side; None for the same kind.
        batch_tokens: tokens of a batch on either side, padding included, at most.
        max_length: tokens of a sentence, special ones included, at most; None for no bound.
        truncate: cut longer sentences instead of refusing them.
        packing: lay several pairs into one row.
        bpe_dropout: probability of skipping a merge in training sentences (BPE-dropout).
        copies: share of the training targets that training also copies, from themselves (Currey et
            al. 2017): where pairs are few, it teaches the decoder its language, and what to leave as it is.
        common: what every task's data takes.
    """

    def __init__(
        self,
        path: str,
        source: str | None = None,
        target: str | None = None,
        tokenizer: str = "bpe",
        vocab_size: int = 8000,
        shared_vocabulary: bool = False,
        target_tokenizer: str | None = None,
        batch_tokens: int = 4096,
        max_length: int | None = None,
        truncate: bool = False,
        packing: bool = False,
        bpe_dropout: float = 0.0,
        copies: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        self.limits = Limits(
            batch_tokens, max_length, truncate, packing, bpe_dropout, self.streaming
        )
        self.asked = (source, target)
        self.kinds = (tokenizer, target_tokenizer or tokenizer)
        self.vocab_size, self.shared_vocabulary = vocab_size, shared_vocabulary
        if shared_vocabulary and self.kinds[0] != self.kinds[1]:
            raise ValueError("a shared vocabulary needs one tokenizer: leave target_tokenizer out")
        if not 0 <= copies <= 1:
            raise ValueError(f"copies must be between 0 and 1, not {copies}")
        if copies and not shared_vocabulary:
            raise ValueError("copies need a shared vocabulary: set shared_vocabulary to true")
        self.copies = copies

    def rows(self, rows: Rows) -> Rows:
        rows = unnest(rows)
        taken = tuple(name for name in self.asked if name is not None)
        source = column(rows.features, self.asked[0], (), is_text, "source", taken)
        target = column(rows.features, self.asked[1], (), is_text, "target", (*taken, source))
        if source == target:
            raise ValueError(f"source and target are the same column {source!r}")
        self.columns = source, target
        return rows.select_columns([source, target])

    def flaws(self, rows: Dataset, cache: Path | None) -> Flaws:
        return missing_texts(rows, self.columns)

    def learn(self, rows: Dataset, cache: Path | None) -> None:
        sides = [list(self.columns)] * 2 if self.shared_vocabulary else [[c] for c in self.columns]
        self.source, self.target = (
            trained(kind, rows, side, self.vocab_size, cache)
            for kind, side in zip(self.kinds, sides, strict=True)
        )
        self.bleu_tokenize = "zh" if _mostly_han(rows[:1000][self.columns[1]]) else "13a"

    def encode(self, rows: Dataset, split: str, cache: Path | None) -> Dataset:
        if split == "train" and self.copies:
            rows = self._with_copies(rows)
        tokenizers = dict(zip(self.columns, (self.source, self.target), strict=True))
        encoded = tokenized(rows, tokenizers, split, cache)
        if self.sieve.skip:
            too_long = self.limits.too_long(self._lengths(encoded), split)
            encoded = self.sieve(encoded, too_long, split)
        self.limits.check(self._lengths(encoded), split, report=self._facts is None)
        return encoded

    def _with_copies(self, rows: Dataset) -> Dataset:
        source, target = self.columns
        texts = rows.shuffle(seed=self.seed).select(range(round(self.copies * len(rows))))[target]
        copies = Dataset.from_dict(
            {source: list(texts), target: list(texts)}, features=rows.features
        )
        return concatenate_datasets([rows, copies])

    def _lengths(self, encoded: Dataset) -> np.ndarray:
        """(N, 2) tokens of each pair's source with <eos>, and target with <bos> or <eos>."""
        return 1 + np.stack([lengths(encoded, name) for name in self.columns], axis=1)

    def describe(self, encoded: dict[str, Dataset]) -> TranslationFacts:
        longest = [self.limits.longest(self._lengths(rows)) for rows in encoded.values()]
        source, target = np.max(longest, axis=0).tolist()
        return TranslationFacts(self.source, self.target, self.bleu_tokenize, source, target)

    def suppose(self, suppositions: Suppositions) -> TranslationFacts:
        longest = suppositions.longest(self.limits.max_length, self.limits.batch_tokens)
        source = target = suppositions.tokenizer(self.kinds[0], self.vocab_size)
        if not self.shared_vocabulary:
            target = suppositions.tokenizer(self.kinds[1], self.vocab_size)
        return TranslationFacts(source, target, "13a", longest, longest)

    def full_batch(self, facts: TranslationFacts) -> TranslationBatch:  # type: ignore[override]
        rows = self.limits.rows(max(facts.longest_source, facts.longest_target))
        source, target = (
            padded_zeros(rows, longest) for longest in (facts.longest_source, facts.longest_target)
        )
        texts = [""] * rows
        return TranslationBatch(*source, *target, torch.zeros_like(target[0]), texts, texts)

    def batches(self, encoded: Dataset, shuffle: bool, seed: int) -> Split:
        sides = self._lengths(encoded)
        if shuffle and self.copies:
            # Both sides of a copy are as long: by that alone they would come to batches of their own.
            sides = sides.max(axis=1)
        sampler = self.limits.sampler(sides, shuffle, seed)
        draw = self.limits.redrawn(seed) if shuffle else None
        return Split(
            Fetched(encoded),
            sampler,
            _Pairs(*self.columns, self.source, self.target, self.limits, draw),
        )


@dataclass(frozen=True)
class _Pairs:
    """Collates rows of the columns `source` and `target`."""

    source: str
    target: str
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    limits: Limits
    redrawn: Redrawn | None

    def __call__(self, samples: list[Sample]) -> TranslationBatch:
        sources = self._side(samples, self.source, self.source_tokenizer)
        targets = self._side(samples, self.target, self.target_tokenizer)
        ours, theirs = self.source_tokenizer, self.target_tokenizer
        source, source_layout = lay([[[*s, ours.eos] for s in row] for row in sources], ours.pad)
        target, target_layout = lay(
            [[[theirs.bos, *t] for t in row] for row in targets], theirs.pad
        )
        labels, _ = lay([[[*t, theirs.eos] for t in row] for row in targets], IGNORE)
        texts = [[row[name] for _, row in samples] for name in (self.source, self.target)]
        return TranslationBatch(source, source_layout, target, target_layout, labels, *texts)

    def _side(
        self, samples: list[Sample], name: str, tokenizer: Tokenizer
    ) -> list[list[list[int]]]:
        cut = self.limits.room(special=1)
        return [
            [
                self.redrawn(tokenizer, row[name], row[ids(name)][:cut], draw, cut)
                if self.redrawn
                else row[ids(name)][:cut]
                for draw, row in together
            ]
            for together in by_row(samples)
        ]


def _mostly_han(texts: list[str]) -> bool:
    letters = [letter for text in texts for letter in text or "" if letter.isalpha()]
    return len(re.findall("[\u3400-\u9fff]", "".join(letters))) > len(letters) / 2
