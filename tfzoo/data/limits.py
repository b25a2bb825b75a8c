"""How long a sequence and how large a batch may be, and the sampler that keeps to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from tfzoo.data.bpe_dropout import Redrawn, stretched
from tfzoo.data.broken import Flaws
from tfzoo.data.budget import PackingSampler, TokenBudgetSampler
from tfzoo.data.sampling import PlannedSampler

EVALUATION_TOKENS = 4096
"""Evaluation keeps nothing for a backward pass: small training batches need not slow it down."""


@dataclass(frozen=True)
class Limits:
    """The bounds on sequences and batches, in tokens, special ones included.

    Raises ValueError naming the bound that makes no sense.
    """

    batch_tokens: int
    max_length: int | None
    truncate: bool
    packing: bool
    bpe_dropout: float
    streaming: bool

    def __post_init__(self) -> None:
        if self.batch_tokens <= 0:
            raise ValueError(f"batch_tokens must be positive, not {self.batch_tokens}")
        if self.max_length is not None and not 2 < self.max_length <= self.batch_tokens:
            raise ValueError(
                f"max_length must be above 2 and at most batch_tokens ({self.batch_tokens}), "
                f"not {self.max_length}"
            )
        if not 0 <= self.bpe_dropout < 1:
            raise ValueError(f"bpe_dropout must be in [0, 1), not {self.bpe_dropout}")
        if self.max_length is None and (self.truncate or self.streaming):
            raise ValueError(
                f"{'truncate' if self.truncate else 'streaming'} needs max_length to be set"
            )

    def check(self, lengths: np.ndarray, split: str, report: bool = True) -> None:
        """Refuse sequences above max_length, or report how many are truncated.

        lengths: (N,) or (N, 2).
        """
        if self.max_length is None:
            return
        longest = lengths.reshape(len(lengths), -1).max(axis=1)
        over = int((longest > self.max_length).sum())
        if not over:
            return
        found = (
            f"{over} of {len(lengths)} samples of the {split} split "
            f"are longer than max_length {self.max_length}"
        )
        if not self.truncate:
            raise ValueError(
                f"{found}, the longest with {longest.max()} tokens: "
                "raise max_length or set truncate to true"
            )
        if report:
            rank_zero_info(f"{found} and are truncated; the longest has {longest.max()} tokens.")

    def too_long(self, lengths: np.ndarray, split: str) -> Flaws:
        """Which sequences neither fit nor are truncated, to leave them out; lengths: (N,) or (N, 2)."""
        if self.truncate:
            return {}
        budget = self.batch_tokens if split == "train" else self._evaluation_tokens()
        bound = self.max_length or budget
        longest = lengths.reshape(len(lengths), -1).max(axis=1)
        return {
            place: f"has {longest[place]} tokens, more than {bound}"
            for place in np.flatnonzero(longest > bound).tolist()
        }

    def rows(self, longest: int) -> int:
        """Rows of a batch of the longest sequences."""
        return max(1, self.batch_tokens // longest)

    def room(self, special: int) -> int | None:
        """Tokens left beside special ones; None for no bound."""
        return None if self.max_length is None else self.max_length - special

    def planned(self, lengths: np.ndarray) -> np.ndarray:
        """The lengths that sequences may come to in a batch."""
        bound = self.max_length or self.batch_tokens
        # A sequence above the budget stays so: the sampler names it.
        grown = np.minimum(stretched(lengths, self.bpe_dropout), np.maximum(bound, lengths))
        return np.minimum(grown, self.max_length or grown.max(initial=0))

    def longest(self, lengths: np.ndarray) -> np.ndarray:
        """Of each side the longest sequence that will be fed, scalar or (2,)."""
        if self.streaming:
            return np.broadcast_to(np.int64(self.max_length or 0), lengths.shape[1:])
        return self.planned(lengths).max(axis=0)

    def sampler(self, lengths: np.ndarray, shuffle: bool, seed: int) -> PlannedSampler:
        """Batches of sequences of the given lengths, (N,) or (N, 2)."""
        if not shuffle:
            return self._evaluation_sampler(lengths, seed)
        planned = self.planned(lengths)
        if self.packing:
            width = self.max_length or int(planned.max())
            return PackingSampler(planned, self.batch_tokens, width, shuffle, seed)
        return TokenBudgetSampler(planned, self.batch_tokens, shuffle, seed)

    def _evaluation_sampler(self, lengths: np.ndarray, seed: int) -> PlannedSampler:
        """Sequences as they are, unpacked: the batch must not matter, and decoding wants rows."""
        kept = np.minimum(lengths, self.max_length or lengths.max())
        return TokenBudgetSampler(kept, self._evaluation_tokens(), False, seed)

    def _evaluation_tokens(self) -> int:
        return max(self.batch_tokens, EVALUATION_TOKENS)

    def redrawn(self, seed: int) -> Redrawn | None:
        return Redrawn(self.bpe_dropout, seed) if self.bpe_dropout else None
