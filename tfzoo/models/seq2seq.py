"""Sequence to sequence: an encoder, and a decoder that attends to it (Vaswani et al. 2017).

Letters: B batch, S source length, T target length, D width, V target vocabulary, R rows being decoded.
"""

from __future__ import annotations

from torch import Tensor, nn

from tfzoo.backbone import Cache, TransformerConfig, stack_for
from tfzoo.layout import Layout
from tfzoo.models.embedding import Tying, tied


class Seq2Seq(nn.Module):
    """Tokens of a source and of a target so far, to logits of the next target token.

    Args:
        config: shape of both stacks.
        source_vocabulary, target_vocabulary: number of tokens of each side.
        tie: which embeddings are shared, see `Tying`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        source_vocabulary: int,
        target_vocabulary: int,
        tie: Tying = "output",
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = stack_for(config.encoder)
        self.decoder = stack_for(config, causal=True, cross=True)
        self.target_embedding, self.source_embedding, self.output = tied(
            config.dim, source_vocabulary, target_vocabulary, tie
        )

    def encode(self, source: Tensor, layout: Layout) -> Tensor:
        """source: (B, S); returns the memory, (B, S, D)."""
        return self.encoder(self.source_embedding(source), layout)

    def decode(
        self,
        target: Tensor,
        layout: Layout,
        memory: Tensor,
        memory_layout: Layout,
        cache: Cache | None = None,
    ) -> Tensor:
        """target: (B, T), with a cache only the new tokens; memory: (B, S, D); returns logits (B, T, V)."""
        x = self.target_embedding(target)
        x = self.decoder(x, layout, memory, memory_layout, cache)
        return self.output.logits(x)

    def forward(
        self, source: Tensor, source_layout: Layout, target: Tensor, target_layout: Layout
    ) -> Tensor:
        """source: (B, S), target: (B, T); returns logits (B, T, V)."""
        memory = self.encode(source, source_layout)
        return self.decode(target, target_layout, memory, source_layout)

    def room(self, source: int) -> int:
        """How many target tokens fit beside a source of so many."""
        return self.config.max_length

    def steps(self, source: Tensor, layout: Layout, capacity: int) -> Seq2SeqSteps:
        """Decoding of these sources (B, S) step by step, to at most `capacity` target tokens."""
        return Seq2SeqSteps(self, source, layout, capacity)


class Seq2SeqSteps:
    """One decoding under way: encodes once, then takes tokens and gives logits."""

    def __init__(self, model: Seq2Seq, source: Tensor, layout: Layout, capacity: int) -> None:
        if capacity > model.config.max_length:
            raise ValueError(
                f"translations of up to {capacity} tokens do not fit the model's "
                f"{model.config.max_length} positions"
            )
        self.model = model
        self.memory, self.memory_layout = model.encode(source, layout), layout
        self.cache = model.decoder.cache(capacity)
        self.length = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: (R, T) that come next; returns logits after the last of them, (R, V)."""
        rows, new = tokens.shape
        layout = Layout.full(rows, new, tokens.device, start=self.length)
        self.length += new
        x = self.model.target_embedding(tokens)
        x = self.model.decoder(x, layout, self.memory, self.memory_layout, self.cache)
        return self.model.output.logits(x[:, -1:])[:, 0]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        """Go on with row rows[i], (R,), as row i; beams: as of `Steps.reorder`."""
        memories = self.cache.reorder(rows, beams)
        # The memory itself is not read again: its keys and values are in the cache.
        if memories is not None:
            self.memory_layout = self.memory_layout.select(memories)
