"""Decoding: one loop over `steps(tokens) -> logits` and `reorder(rows)`, whatever the network and the strategy.

Whatever takes tokens and gives logits can be decoded. Strategies are in `one_by_one` (greedy, sampling) and `beams`.
Letters: B sequences asked for, R rows under way (B, or B x K under beam search), K beams, V vocabulary, T tokens so
far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tfzoo.backbone import weights_stay


class Steps(Protocol):
    """A decoding under way, of any network."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: (R, T), the next of every row; returns logits of what follows, (R, V), for the caller to change."""
        ...

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        """Go on with row rows[i], (R',), as row i.

        beams: above 1, rows come in groups of so many that go on with one of the B sequences each; groups stay in their
        order, or leave whole.
        """
        ...


class Hypothesis(NamedTuple):
    """A decoded sequence.

    tokens: without the prompt and without the end token.
    score: sum of log probabilities in nats, the end token's included; under beam search divided by the length penalty.
    """

    tokens: list[int]
    score: float


class Limits(NamedTuple):
    """When a sequence ends: at the end token, or at max_tokens new tokens; `forbidden` tokens are never chosen."""

    end: int | None
    max_tokens: int
    forbidden: Sequence[int] = ()


class Search(Protocol):
    """A search under way."""

    @property
    def beams(self) -> int:
        """In groups of how many the rows come that were last chosen, each of one sequence."""
        ...

    def advance(self, logits: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """logits: (R, V). Returns (rows to go on with, None for all as they are; their next tokens), or None to end."""
        ...

    def result(self) -> list[list[Hypothesis]]:
        """For each of the B sequences its hypotheses, best first."""
        ...


class Strategy(Protocol):
    """How to choose: a value that begins searches."""

    def begin(self, batch: int, limits: Limits, device: torch.device) -> Search: ...


@torch.inference_mode()
def decode(
    steps: Steps, prompt: Tensor, strategy: Strategy, limits: Limits
) -> list[list[Hypothesis]]:
    """Decode after `prompt` (B, T); returns for each row its hypotheses, best first."""
    if limits.max_tokens < 1 or not len(prompt):
        return [[Hypothesis([], 0.0)] for _ in prompt]
    search = strategy.begin(len(prompt), limits, prompt.device)
    forbidden = torch.tensor(list(limits.forbidden), dtype=torch.long, device=prompt.device)
    tokens = prompt
    with weights_stay():
        while True:
            logits = steps(tokens)
            if len(forbidden):
                logits.index_fill_(-1, forbidden, -math.inf)
            chosen = search.advance(logits)
            if chosen is None:
                return search.result()
            rows, following = chosen
            if rows is not None:
                steps.reorder(rows, search.beams)
            tokens = following[:, None]
