"""BPE-dropout (Provilkov et al. 2020) with a seed: that of `tokenizers` cannot be seeded."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

if TYPE_CHECKING:
    from tfzoo.data.sampling import Draw
    from tfzoo.data.tokenizer import Tokenizer


class BytePairs:
    """The merges of a byte-level BPE tokenizer, applied one after the other."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        model = json.loads(inner.to_str())["model"]
        if model["type"] != "BPE" or not model["merges"] or inner.pre_tokenizer is None:
            raise ValueError(
                "bpe_dropout needs a bpe tokenizer: set tokenizer to bpe, or bpe_dropout to 0"
            )
        self._split = inner.pre_tokenizer.pre_tokenize_str
        self._normalize = inner.normalizer.normalize_str if inner.normalizer else str
        self._ids: dict[str, int] = model["vocab"]
        pairs = (tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"])
        self._rank = {pair: rank for rank, pair in enumerate(pairs)}

    def encode(self, text: str, dropout: float, chance: random.Random) -> list[int]:
        """The ids of a text when each merge is skipped with probability `dropout` at each step."""
        words = self._split(self._normalize(text))
        return [id for word, _ in words for id in self._word(word, dropout, chance)]

    def _word(self, word: str, dropout: float, chance: random.Random) -> list[int]:
        pieces = list(word)
        while len(pieces) > 1:
            ranks = [self._rank.get(pair) for pair in pairwise(pieces)]
            kept = [
                (rank, place)
                for place, rank in enumerate(ranks)
                if rank is not None and chance.random() >= dropout
            ]
            if not kept:
                break
            place = min(kept)[1]
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return [self._ids[piece] for piece in pieces]


def stretched(lengths: np.ndarray, dropout: float) -> np.ndarray:
    """The room sequences are given: dropout of p makes them 1 + p to 1 + 2p times as long."""
    return np.ceil(lengths * (1 + 3 * dropout)).astype(lengths.dtype)


@dataclass(frozen=True)
class Redrawn:
    """Training sequences segmented anew each epoch, as seed, epoch and sample alone decide."""

    dropout: float
    seed: int

    def __call__(
        self, tokenizer: Tokenizer, text: str, usual: list[int], draw: Draw, room: int | None
    ) -> list[int]:
        """The ids of a text under dropout; the usual ones where they would outgrow their room."""
        chance = random.Random(f"{self.seed} {draw.epoch} {draw.sample}")
        drawn = tokenizer.encode(text, self.dropout, chance)[:room]
        fits = len(drawn) <= int(stretched(np.array(len(usual)), self.dropout))
        return drawn if fits else usual
