"""Decoding: greedy, sampling and beam search in one loop over `steps(tokens) -> logits` and `reorder(rows)`.

The loop knows nothing of networks; whatever takes tokens and gives logits can be decoded. Letters: B sequences asked
for, R rows under way (B, or B x K under beam search), K beams, V vocabulary, T tokens so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

CHUNK = 100
"""Logits that are looked through together; of 50, 80, 100 and 200, the fastest for vocabularies of 8,000 and 32,000."""


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
    if limits.max_tokens < 1:
        return [[Hypothesis([], 0.0)] for _ in prompt]
    search = strategy.begin(len(prompt), limits, prompt.device)
    forbidden = torch.tensor(limits.forbidden, dtype=torch.long, device=prompt.device)
    logits = steps(prompt)
    while (chosen := search.advance(logits.index_fill_(-1, forbidden, -math.inf))) is not None:
        rows, tokens = chosen
        if rows is not None:
            steps.reorder(rows, search.beams)
        logits = steps(tokens[:, None])
    return search.result()


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


@dataclass(frozen=True)
class Beam:
    """Beam search: the `size` best hypotheses in parallel; one that ends takes its beam with it.

    Hypotheses are ranked by log probability over ((5 + length) / 6)^length_penalty (Wu et al. 2016, section 7). A
    search stops exactly when no hypothesis under way could still beat the best that ended, however it went on; and
    with one beam it is greedy decoding.
    """

    size: int = 4
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"beam size must be at least 1, not {self.size}")

    def begin(self, batch: int, limits: Limits, device: torch.device) -> Search:
        return _Beams(self, batch, limits, device)

    def penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty


@dataclass
class _Beams:
    beam: Beam
    batch: int
    limits: Limits
    device: torch.device
    ended: list[list[Hypothesis]] = field(init=False)

    def __post_init__(self) -> None:
        self.ended = [[] for _ in range(self.batch)]
        self.sentences = list(range(self.batch))  # which sequence each group of beams is
        self.scores = torch.zeros(self.batch, 1, device=self.device)  # (B', K), -inf: no hypothesis
        self.tokens = torch.zeros(self.batch, 1, 0, dtype=torch.long, device=self.device)

    @property
    def beams(self) -> int:
        return self.scores.shape[1]

    def advance(self, logits: Tensor) -> tuple[Tensor | None, Tensor] | None:
        groups, beams = self.scores.shape
        size = self.beam.size
        # No more than `size` tokens of a beam can be among the best of all.
        likely = largest(logits, min(size, logits.shape[-1]))
        gained = logits.float().log_softmax(-1).gather(-1, likely)
        candidates = (self.scores[..., None] + gained.view(groups, beams, -1)).flatten(1)
        scores, index = candidates.topk(min(size, candidates.shape[1]), dim=1)
        parent, token = index // likely.shape[1], likely.view(groups, -1).gather(1, index)
        tokens = torch.cat(
            [
                self.tokens.gather(1, parent[..., None].expand(-1, -1, self.tokens.shape[2])),
                token[..., None],
            ],
            dim=2,
        )
        length = tokens.shape[2]
        rank = torch.arange(scores.shape[1], device=self.device)
        room = torch.tensor([size - len(self.ended[s]) for s in self.sentences], device=self.device)
        real = (rank < room[:, None]) & scores.isfinite()
        last = length == self.limits.max_tokens
        ends = real & (token == self.limits.end if self.limits.end is not None else False)
        self._end(ends | (real & last), tokens, scores, length)
        scores = scores.masked_fill(~real | ends, float("-inf"))
        going = [] if last else self._going(scores, length)
        if not going:
            return None
        if len(going) * 4 > groups * 3:  # too few are done to be worth copying the rest
            scores[[group for group in range(groups) if group not in going]] = -math.inf
            going = list(range(groups))
        keep = torch.tensor(going, device=self.device)
        self.sentences = [self.sentences[g] for g in going]
        self.scores, self.tokens = scores[keep], tokens[keep]
        rows = (keep[:, None] * beams + parent[keep]).flatten()
        return rows, token[keep].flatten()

    def _end(self, ends: Tensor, tokens: Tensor, scores: Tensor, length: int) -> None:
        for group, beam in ends.nonzero().tolist():
            words = tokens[group, beam].tolist()
            if words[-1] == self.limits.end:
                words.pop()
            score = scores[group, beam].item() / self.beam.penalty(length)
            self.ended[self.sentences[group]].append(Hypothesis(words, score))

    def _going(self, scores: Tensor, length: int) -> list[int]:
        """The groups in which a hypothesis under way could still beat the best that ended.

        Log probability only falls, so the most it can score is today's, at the kindest penalty to come.
        """
        kindest = max(self.beam.penalty(length + 1), self.beam.penalty(self.limits.max_tokens))
        going = []
        for group, best in enumerate(scores.max(dim=1).values.tolist()):
            ended = max((h.score for h in self.ended[self.sentences[group]]), default=-math.inf)
            if best > -math.inf and best / kindest > ended:
                going.append(group)
        return going

    def result(self) -> list[list[Hypothesis]]:
        nothing = [Hypothesis([], -math.inf)]  # where logits were never numbers
        return [sorted(ended, key=lambda h: -h.score) or nothing for ended in self.ended]


def largest(logits: Tensor, count: int) -> Tensor:
    """Which `count` of each row are largest, best first. logits: (R, V); returns (R, count).

    As topk says, which on a CPU takes longer than all else that is done with the logits of a large vocabulary: so of
    chunks only those are looked through whose own largest are largest.
    """
    chunks = logits.shape[1] // CHUNK
    if chunks <= count or count == 1 or logits.device.type != "cpu":
        return logits.topk(count, dim=1).indices
    peaks = logits[:, : chunks * CHUNK].unflatten(1, (chunks, CHUNK)).amax(dim=-1)
    places = torch.arange(logits.shape[1], device=logits.device)
    found = places[: chunks * CHUNK].view(chunks, CHUNK)[peaks.topk(count, dim=1).indices]
    rest = places[chunks * CHUNK :].expand(len(logits), -1)
    candidates = torch.cat([found.flatten(1), rest], dim=1)
    return candidates.gather(1, logits.gather(1, candidates).topk(count, dim=1).indices)
