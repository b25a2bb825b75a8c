"""Beam search: several hypotheses of each sequence in parallel.

Letters: B sequences asked for, B' of them under way, K beams, R = B' x K rows, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tfzoo.models.decoding import Hypothesis, Limits, Search

CHUNK = 100
"""Logits that are looked through together; of 50, 80, 100 and 200, the fastest for vocabularies of 8,000 and 32,000."""


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
