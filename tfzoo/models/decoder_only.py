"""Translation by a decoder alone: the source, then the target, as one text (Liu et al. 2018).

Letters: B batch, S source length, T target length, D width, V target vocabulary, R rows being decoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfzoo.backbone import Transformer, TransformerConfig
from tfzoo.layout import Layout
from tfzoo.models.embedding import Tying, tied


class DecoderOnly(nn.Module):
    """Tokens of a source and of a target so far, to logits of the next target token: as `Seq2Seq`, in one stack.

    Every token sees those before it, a source's too. Positions go on from the source into the target.

    Args:
        config: shape of the stack; its max_length must hold a source and its target.
        source_vocabulary, target_vocabulary, tie: as of `Seq2Seq`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        source_vocabulary: int,
        target_vocabulary: int,
        tie: Tying = "output",
    ) -> None:
        super().__init__()
        if config.recurrence is not None:
            raise ValueError(
                f"a decoder alone is a Transformer: {config.network} would carry no state from a source over its "
                "padding to the target; set backbone.network to transformer, or architecture to encoder-decoder"
            )
        self.config = config
        self.decoder = Transformer(config, causal=True)
        self.target_embedding, self.source_embedding, self.output = tied(
            config.dim, source_vocabulary, target_vocabulary, tie
        )

    def forward(
        self, source: Tensor, source_layout: Layout, target: Tensor, target_layout: Layout
    ) -> Tensor:
        """source: (B, S), target: (B, T); returns logits (B, T, V)."""
        x = torch.cat([self.source_embedding(source), self.target_embedding(target)], dim=1)
        layout = source_layout.extend(after(source_layout, target_layout))
        return self.output.logits(self.decoder(x, layout)[:, source.shape[1] :])

    def room(self, source: int) -> int:
        """How many target tokens fit beside a source of so many."""
        return self.config.max_length - source

    def steps(self, source: Tensor, layout: Layout, capacity: int) -> DecoderOnlySteps:
        """Decoding of these sources (B, S) step by step, to at most `capacity` target tokens."""
        return DecoderOnlySteps(self, source, layout, capacity)


def after(source: Layout, target: Layout) -> Layout:
    """The target's layout with positions that go on where those of its source end. source: (B, S), target: (B, T)."""
    if source.dense and target.dense:
        start = source.start + source.shape[1] + target.start
        rows, length = target.shape
        return Layout.full(rows, length, target.device, start=start)
    read = (source.segments[:, :, None] == target.segments[:, None, :]).sum(1)
    return Layout(target.positions + read, target.segments)


class DecoderOnlySteps:
    """One decoding under way: reads the sources with the first tokens, then takes tokens and gives logits."""

    def __init__(self, model: DecoderOnly, source: Tensor, layout: Layout, capacity: int) -> None:
        needed = source.shape[1] + capacity
        if needed > model.config.max_length:
            raise ValueError(
                f"sources of {source.shape[1]} tokens and translations of up to {capacity} do not fit the model's "
                f"{model.config.max_length} positions"
            )
        self.model, self.layout = model, layout
        self.source: Tensor | None = source
        self.cache = model.decoder.cache(needed)
        self.length = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: (R, T) that come next; returns logits after the last of them, (R, V)."""
        rows, length = tokens.shape
        new = Layout.full(rows, length, tokens.device, start=self.length)
        self.length += length
        layout, x = after(self.layout, new), self.model.target_embedding(tokens)
        if self.source is not None:
            x = torch.cat([self.model.source_embedding(self.source), x], dim=1)
            layout, self.source = self.layout.extend(layout), None
        x = self.model.decoder(x, layout, cache=self.cache)
        return self.model.output.logits(x[:, -1:])[:, 0]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        """Go on with row rows[i], (R,), as row i; beams: as of `Steps.reorder`."""
        self.cache.reorder(rows, beams)
        self.layout = self.layout.select(rows)
