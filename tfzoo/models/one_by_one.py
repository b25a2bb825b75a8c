"""Greedy decoding and sampling: a token after the other, one hypothesis a row.

Letters: R rows under way, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tfzoo.models.decoding import Hypothesis, Limits, Search


@dataclass(frozen=True)
class Greedy:
    """The most probable token each time."""

    def begin(self, batch: int, limits: Limits, device: torch.device) -> Search:
        return _OneByOne(self, batch, limits, device)

    def choose(self, logits: Tensor) -> Tensor:
        """logits: (R, V); returns tokens (R,)."""
        return logits.argmax(dim=-1)


@dataclass(frozen=True)
class Sampling:
    """A random token each time, from a distribution that is sharpened and cut.

    Args:
        temperature: logits are divided by it; below 1 sharper, above 1 flatter.
        top_k: only the k most probable tokens (Fan et al. 2018).
        top_p: only the smallest set of tokens whose probability reaches p (Holtzman et al. 2020).
        seed: of the draw; none: torch's global generator.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(
                f"temperature must be above 0, not {self.temperature}; for 0 decode greedily"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p}")

    def begin(self, batch: int, limits: Limits, device: torch.device) -> Search:
        generator = None
        if self.seed is not None:
            generator = torch.Generator(device).manual_seed(self.seed)
        return _OneByOne(self, batch, limits, device, generator)

    def choose(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """logits: (R, V); returns tokens (R,)."""
        probabilities = self.distribution(logits)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    def distribution(self, logits: Tensor) -> Tensor:
        """What is drawn from. logits: (..., V); returns probabilities (..., V), float32."""
        logits = logits.float() / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self.top_p is not None and self.top_p < 1:
            descending, order = logits.sort(dim=-1, descending=True)
            probability = descending.softmax(dim=-1)
            # A token is needed while those before it do not yet reach p; the first always is.
            surplus = probability.cumsum(dim=-1) - probability >= self.top_p
            logits = logits.masked_fill(surplus.scatter(-1, order, surplus.clone()), float("-inf"))
        return logits.softmax(dim=-1)


class _OneByOne:
    """Greedy and sampling: one hypothesis a row. Rows that are done leave once a quarter of them are."""

    beams = 1

    def __init__(
        self,
        strategy: Greedy | Sampling,
        batch: int,
        limits: Limits,
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> None:
        self.strategy, self.limits, self.generator = strategy, limits, generator
        self.tokens: list[list[int]] = [[] for _ in range(batch)]
        self.scores = [0.0] * batch
        self.sequence = torch.arange(batch, device=device)  # which sequence each row is
        self.done = torch.zeros(batch, dtype=torch.bool, device=device)
        self.history: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def advance(self, logits: Tensor) -> tuple[Tensor | None, Tensor] | None:
        chosen = (
            self.strategy.choose(logits)
            if isinstance(self.strategy, Greedy)
            else self.strategy.choose(logits, self.generator)
        )
        gained = logits.float().log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
        was_done = self.done
        self.history.append((self.sequence, chosen, gained, was_done))
        if len(self.history) == self.limits.max_tokens:
            return None
        if self.limits.end is None:
            return None, chosen
        self.done = was_done | (chosen == self.limits.end)
        finished = int(self.done.sum())
        if finished == len(self.done):
            return None
        if finished * 4 < len(self.done):
            return None, chosen
        rows = (~self.done).nonzero()[:, 0]
        self.sequence, self.done = self.sequence[rows], self.done[rows]
        return rows, chosen[rows]

    def result(self) -> list[list[Hypothesis]]:
        for step in self.history:
            for sequence, token, gained, done in zip(
                *(part.tolist() for part in step), strict=True
            ):
                if not done:
                    self.scores[sequence] += gained
                    if token != self.limits.end:
                        self.tokens[sequence].append(token)
        return [[Hypothesis(t, s)] for t, s in zip(self.tokens, self.scores, strict=True)]
