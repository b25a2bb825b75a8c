"""Real batches: sentences of many lengths, of which only the tokens that are no padding count.

Ours are sentences of like length within a budget of tokens; others take as many sentences as they come, or next to
each other in the order of their sources' length, and pad them to the longest. Batches are made beforehand: what loading
costs a step is in `framework`, whose bare loop loads too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import torch
import torch.nn.functional as F
from contest import OURS, Contestant
from torch import Tensor, nn
from training import Shape, marian, trained, translator

from tfzoo.data.batching import IGNORE, TranslationBatch
from tfzoo.data.generation import GenerationData
from tfzoo.data.source import load
from tfzoo.data.translation import TranslationData

Pair = tuple[list[int], list[int]]
ENOUGH = 50_000
"""Pairs of a large set: others' batches of them are as those of all."""


@dataclass
class Epoch:
    """Batches of each contestant's; `counts` says how many tokens counted in them, `padding` the share of an epoch."""

    name: str
    contestants: list[Contestant]
    counts: dict[str, int]
    padding: dict[str, float]


def padding(tokens: int, real: int) -> float:
    return 1 - real / tokens


def real(batch: TranslationBatch) -> tuple[int, int]:
    """Tokens computed, and those that are no padding."""
    layouts = (batch.source_layout, batch.target_layout)
    computed = sum(layout.segments.numel() for layout in layouts)
    return computed, sum(int((layout.segments > 0).sum()) for layout in layouts)


def share_of_padding(data: TranslationData) -> float:
    """Of all tokens computed in an epoch."""
    counts = [real(batch) for batch in data.train_dataloader()]
    return padding(sum(c for c, _ in counts), sum(r for _, r in counts))


def share_in_language_modelling(data: GenerationData) -> float:
    segments = [batch.layout.segments for batch in data.train_dataloader()]
    return padding(sum(s.numel() for s in segments), sum(int((s > 0).sum()) for s in segments))


def translations(
    path: str, shape: Shape, precision: str, batches: int, device: torch.device
) -> Epoch:
    """A translator's training on the sentences of a set, as many tokens in ours as in a batch of the shape's size."""
    max_length = min(2 * shape.length, shape.batch * shape.length)
    data = TranslationData(
        path,
        vocab_size=shape.vocabulary,
        shared_vocabulary=True,
        max_length=max_length,
        truncate=True,
        batch_tokens=shape.batch * shape.length,
    )
    vocabulary, filler = data.facts.source.vocab_size, data.facts.source.pad
    room = replace(shape, length=2 * shape.length + 1, vocabulary=vocabulary)
    taken = list(islice(cycle(data.train_dataloader()), batches))
    everything = list(islice(pairs(data, max_length), ENOUGH))
    each = min(sum(len(batch.source) for batch in taken) // batches, len(everything))
    torch.manual_seed(0)
    model, _ = translator(replace(room, batch=1), device).makers[OURS]()
    ours = trained_on(OURS, model, [_ours(model, b.to(device)) for b in taken], precision, device)
    contestants, counts = [ours], {OURS: sum(real(batch)[1] for batch in taken)}
    shares = {OURS: share_of_padding(data)}
    for name, rows, steps in (
        ("transformers Marian", everything, 1),  # as random as any other, and long to compute
        ("Marian, by length", sorted(everything, key=lambda pair: len(pair[0])), batches),
    ):
        epoch = [rows[start : start + each] for start in range(0, len(rows), each)]
        shares[name] = padding(sum(map(padded, epoch)), sum(map(tokens, epoch)))
        chosen = [epoch[len(epoch) * (2 * k + 1) // (2 * steps)] for k in range(steps)]
        counts[name] = sum(map(tokens, chosen))
        torch.manual_seed(0)
        other = marian(room)
        sides = [
            [pad([pair[side] for pair in batch], filler) for side in (0, 1)] for batch in chosen
        ]
        losses = [_marians(other, *(side.to(device) for side in pair), filler) for pair in sides]
        contestants.append(trained_on(name, other, losses, precision, device))
    return Epoch("real sentences", contestants, counts, shares)


def pairs(data: TranslationData, longest: int) -> Iterator[Pair]:
    """Token ids of the training split in a random order; a source ends with <eos>, a target is fed with <bos>."""
    source, target = data.columns
    for row in load(data.path)["train"].shuffle(seed=0):
        ids = data.source.encode(row[source])[: longest - 1]
        theirs = data.target.encode(row[target])[: longest - 1]
        yield [*ids, data.source.eos], [data.target.bos, *theirs]


def tokens(rows: list[Pair]) -> int:
    return sum(len(side) for pair in rows for side in pair)


def padded(rows: list[Pair]) -> int:
    """How many tokens there are once all are as long as the longest."""
    return len(rows) * sum(max(len(pair[side]) for pair in rows) for side in (0, 1))


def pad(rows: list[list[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def trained_on(
    name: str,
    module: nn.Module,
    losses: list[Callable[[], Tensor]],
    precision: str,
    device: torch.device,
) -> Contestant:
    """A step on each of the batches in one work."""
    current: list[Callable[[], Tensor]] = []
    step = trained(name, module.to(device).train(), lambda: current[0](), precision, device)

    def every() -> None:
        for loss in losses:
            current[:] = [loss]
            step.work()

    return Contestant(name, every, step.kept)


def _ours(model: Any, batch: TranslationBatch) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        logits = model(batch.source, batch.source_layout, batch.target, batch.target_layout)
        return F.cross_entropy(logits.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORE)  # fmt: skip

    return loss


def _marians(model: Any, source: Tensor, target: Tensor, filler: int) -> Callable[[], Tensor]:
    seen = source != filler
    labels = target.roll(-1, dims=1).masked_fill(target == filler, IGNORE)

    def loss() -> Tensor:
        logits = model(source, attention_mask=seen, decoder_input_ids=target, use_cache=False).logits  # fmt: skip
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)

    return loss
