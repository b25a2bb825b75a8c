"""Running text, cut into windows of one length: language modelling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.utils.data
from datasets import Dataset

from tfzoo.data.bars import bar
from tfzoo.data.batching import IGNORE, LanguageBatch
from tfzoo.data.broken import Flaws, missing_texts
from tfzoo.data.budget import CountSampler
from tfzoo.data.columns import column
from tfzoo.data.datamodule import TaskData, at_least
from tfzoo.data.encoding import flat, lengths, tokenized, trained
from tfzoo.data.facts import Facts
from tfzoo.data.sampling import Draw
from tfzoo.data.source import Rows, is_text
from tfzoo.data.streaming import Split
from tfzoo.data.supposing import Suppositions
from tfzoo.data.tokenizer import Tokenizer
from tfzoo.layout import Layout


@dataclass(frozen=True)
class LanguageFacts(Facts):
    """What a language model must know.

    context: tokens of a window; density: of the splits validation and test, the `characters` and
        `words` (between
    white space) for each token predicted, so that nats a token become bits a character or
    perplexity a word.
    """

    tokenizer: Tokenizer
    context: int
    density: dict[str, dict[str, float]]


class _Stream(NamedTuple):
    """The tokens of a split, one document after the other, and where each document begins."""

    tokens: np.ndarray  # (N,)
    begins: np.ndarray  # (documents,) places in tokens
    characters: int
    words: int


class GenerationData(TaskData):
    """Running text as windows of `context` tokens, nothing padded.

    Where there are several documents, each begins with <eos>, which ends the one before it, and is
    a segment of its own. Training windows begin at another place in each epoch; evaluation walks
    once over the whole split.

    Args:
        text: column of the texts; None for `text` or else the first column of text.
        rows_are: `documents`, each row a text of its own (a whole file, for text files), or `lines`
            of one long text.
        tokenizer: characters, bytes, bpe, or the path of a tokenizer.json.
        vocab_size: tokens of the vocabulary, at most.
        context: tokens of a window.
        batch_size: windows of a batch.
        common: what every task's data takes.
    """

    whole_files = True

    def __init__(
        self,
        path: str,
        text: str | None = None,
        rows_are: Literal["documents", "lines"] = "documents",
        tokenizer: str = "characters",
        vocab_size: int = 8000,
        context: int = 256,
        batch_size: int = 12,
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        at_least("context", context, 1)
        at_least("batch_size", batch_size, 1)
        if rows_are not in ("documents", "lines"):
            raise ValueError(f"rows_are must be documents or lines, not {rows_are!r}")
        self.whole_files = rows_are == "documents"
        self.text, self.rows_are = text, rows_are
        self.kind, self.vocab_size = tokenizer, vocab_size
        self.context, self.batch_size = context, batch_size

    def rows(self, rows: Rows) -> Rows:
        self.text = column(rows.features, self.text, ("text",), is_text, "text")
        rows = rows.select_columns([self.text])
        if self.rows_are == "documents":
            return rows
        # Hub sets of lines (WikiText) keep some line ends and drop others, as text files drop all:
        # every row gets one.
        return rows.map(_ended, batched=True, fn_kwargs={"column": self.text})

    def flaws(self, rows: Dataset, cache: Path | None) -> Flaws:
        return missing_texts(rows, [str(self.text)], blank=True)

    def learn(self, rows: Dataset, cache: Path | None) -> None:
        self.tokenizer = trained(self.kind, rows, [str(self.text)], self.vocab_size, cache)

    def encode(self, rows: Dataset, split: str, cache: Path | None) -> _Stream:
        text = str(self.text)
        encoded = tokenized(rows, {text: self.tokenizer}, split, cache)
        small = np.uint16 if self.tokenizer.vocab_size <= 1 << 16 else np.int32
        tokens, begins = flat(encoded, text).astype(small), np.zeros(1, np.int64)
        counts = lengths(encoded, text)
        characters = words = 0
        for batch in bar(rows.iter(1000), f"Counting words of {split}", -(-len(rows) // 1000)):
            for one in batch[text]:
                characters, words = characters + len(one), words + len(one.split())
        if self.rows_are == "documents" and len(counts) > 1:
            begins = np.cumsum(counts) - counts
            tokens = np.insert(tokens, begins, self.tokenizer.eos)
            begins = begins + np.arange(len(begins))
        if len(tokens) <= self.context:
            raise ValueError(
                f"the {split} split has {len(tokens)} tokens, too few for one window: "
                "set context below that"
            )
        return _Stream(tokens, begins, characters, words)

    def describe(self, encoded: dict[str, _Stream]) -> LanguageFacts:
        density = {
            split: {
                "characters": stream.characters / (len(stream.tokens) - 1),
                "words": stream.words / (len(stream.tokens) - 1),
            }
            for split, stream in encoded.items()
            if split != "train"
        }
        return LanguageFacts(self.tokenizer, self.context, density)

    def suppose(self, suppositions: Suppositions) -> LanguageFacts:
        tokenizer = suppositions.tokenizer(self.kind, self.vocab_size)
        density = {"characters": 1.0, "words": 1.0}
        return LanguageFacts(tokenizer, self.context, {"validation": density, "test": density})

    def full_batch(self, facts: LanguageFacts) -> LanguageBatch:  # type: ignore[override]
        shape = self.batch_size, facts.context
        tokens, layout = torch.zeros(shape, dtype=torch.long), Layout.full(*shape)
        if self.rows_are == "documents":  # one may end within a window
            layout = layout.undeclared()
        return LanguageBatch(tokens, layout, torch.zeros_like(tokens))

    def batches(self, encoded: _Stream, shuffle: bool, seed: int) -> Split:
        predicted = len(encoded.tokens) - 1
        # In training whole windows, one fewer than may fit: they begin anywhere in the first.
        whole = max(1, (predicted - self.context + 1) // self.context)
        count = whole if shuffle else -(-predicted // self.context)
        sampler = CountSampler(count, self.batch_size, shuffle, seed)
        windows = Windows(encoded.tokens, encoded.begins, self.context, seed if shuffle else None)
        return Split(windows, sampler, _windows_batch)


def _ended(batch: dict[str, list[str | None]], column: str) -> dict[str, list[str]]:
    texts = [text or "" for text in batch[column]]
    return {column: [text if text.endswith("\n") else text + "\n" for text in texts]}


Window = tuple[np.ndarray, np.ndarray, np.ndarray]  # tokens, labels, segments


class Windows(torch.utils.data.Dataset):
    """The windows of running text; with a seed, shifted by less than a window from epoch to epoch.

    tokens: (N,) ids; begins: where the documents begin, from 0.
    """

    def __init__(
        self, tokens: np.ndarray, begins: np.ndarray, context: int, seed: int | None
    ) -> None:
        self.tokens, self.begins, self.context, self.seed = tokens, begins, context, seed

    def __getitems__(self, draws: list[Draw]) -> list[Window]:
        return [self[draw] for draw in draws]

    def __getitem__(self, draw: Draw) -> Window:
        start = draw.sample * self.context + self._shift(draw.epoch)
        stop = min(start + self.context, len(self.tokens) - 1)
        places = np.arange(start, stop)
        segments = np.searchsorted(self.begins, places, side="right")
        segments = segments - segments[0] + 1
        return self.tokens[start:stop], self.tokens[start + 1 : stop + 1], segments

    def _shift(self, epoch: int) -> int:
        if self.seed is None:
            return 0
        spare = min(self.context, len(self.tokens) - self.context)
        return int(np.random.default_rng((self.seed, epoch)).integers(spare))


def _windows_batch(windows: list[Window]) -> LanguageBatch:
    """Windows, all but a split's last of one length, as a batch of rows."""
    width = max(len(window[0]) for window in windows)
    tokens = np.zeros((len(windows), width), np.int64)
    labels = np.full_like(tokens, IGNORE)
    segments = np.zeros_like(tokens)
    for row, (inputs, nexts, parts) in enumerate(windows):
        tokens[row, : len(inputs)] = inputs
        labels[row, : len(nexts)] = nexts
        segments[row, : len(parts)] = parts
    if (segments == 1).all():
        layout = Layout.full(len(windows), width)
    else:
        places = np.arange(width)
        begins = np.diff(segments, axis=1, prepend=-1) != 0
        positions = places - np.maximum.accumulate(np.where(begins, places, 0), axis=1)
        shape = int((begins & (segments > 0)).sum()), int(positions.max()) + 1
        layout = Layout(torch.from_numpy(positions), torch.from_numpy(segments), sequences=shape)
    return LanguageBatch(torch.from_numpy(tokens), layout, torch.from_numpy(labels))
