"""What a trained translator looks at, for the claims that are about attention itself."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tfzoo.backbone import capture
from tfzoo.layout import Layout
from tfzoo.tasks import Translation


class Looked:
    """A source and its target, read by a translator: pieces of both, and every attention's weights.

    weights: of each attention's name, such as decoder.blocks.0.cross_attention.sublayer, (H, T, S).
    """

    def __init__(self, task: Translation, source: str, target: str) -> None:
        ids, given = tokens(task, source, target)
        with torch.inference_mode(), capture(task.network) as weights:
            task.network(ids, Layout.full(*ids.shape), given, Layout.full(*given.shape))
        self.weights: dict[str, Tensor] = {name: one[0] for name, one in weights.items()}
        writing = task.facts.target
        self.source = [task.facts.source.token(one) for one in ids[0].tolist()]
        self.target = [writing.token(one) for one in [*given[0, 1:].tolist(), writing.eos]]

    def of(self, part: str) -> list[Tensor]:
        """Of the attentions with that in their name, by layer."""
        return [one for name, one in self.weights.items() if part in name]


def tokens(task: Translation, source: str, target: str) -> tuple[Tensor, Tensor]:
    """What the encoder and the decoder read of a pair: (1, S) and (1, T)."""
    reading, writing = task.facts.source, task.facts.target
    return (
        torch.tensor([[*reading.encode(source), reading.eos]]),
        torch.tensor([[writing.bos, *writing.encode(target)]]),
    )


def translator(checkpoint: Path) -> Translation:
    return Translation.from_checkpoint(checkpoint).eval()


def overlap(heads: Tensor) -> float:
    """How much two heads look at the same: the mean over pairs and queries of what their weights share, 0 to 1.

    heads: (H, T, S), rows that sum to 1.
    """
    count = len(heads)
    shared = [
        torch.minimum(heads[i], heads[j]).sum(-1).mean().item()
        for i in range(count)
        for j in range(i)
    ]
    return sum(shared) / len(shared) if shared else 1.0
