"""Classifiers over tokens and over image patches: one encoder, one pooling, one linear layer.

Letters: B batch of rows, T length, D width, N sequences in the batch, V classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tfzoo.backbone import LearnedPositions, Transformer, TransformerConfig, stack_for
from tfzoo.layout import Layout
from tfzoo.models.embedding import PatchEmbedding, TokenEmbedding

Pooling = Literal["cls", "mean"]


def pool(x: Tensor, layout: Layout, first: Tensor, pooling: Pooling) -> Tensor:
    """One vector for each sequence: that of its first token, or the mean over its tokens.

    x: (B, T, D); first: (N,) indices into B x T of the sequences' first tokens, ascending; returns (N, D).
    """
    x = x.flatten(0, 1)
    if pooling == "cls":
        return x[first]
    starts = torch.zeros(len(x), dtype=torch.long, device=x.device).index_fill(0, first, 1)
    owner = (starts.cumsum(0) - 1).clamp(min=0)
    # In float32: half precision cannot count past a few hundred.
    real = (layout.segments.flatten() > 0).float()[:, None]
    total = real.new_zeros(len(first), x.shape[1]).index_add(0, owner, x * real)
    return (total / real.new_zeros(len(first), 1).index_add(0, owner, real)).type_as(x)


class TextClassifier(nn.Module):
    """Tokens to class logits, as BERT does (Devlin et al. 2019).

    Args:
        config: shape of the encoder.
        vocabulary: number of tokens.
        classes: number of classes V.
        pooling: "cls" reads the first token, "mean" all of a text's tokens.
    """

    def __init__(
        self, config: TransformerConfig, vocabulary: int, classes: int, pooling: Pooling = "cls"
    ) -> None:
        super().__init__()
        self.config, self.pooling = config, pooling
        self.embedding = TokenEmbedding(vocabulary, config.dim)
        self.encoder = stack_for(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = zero_linear(config.dim, classes)
        self._start_small()

    @torch.no_grad()
    def _start_small(self) -> None:
        """Embeddings and learned positions near zero, as BERT's: a word that training hardly met adds no noise."""
        self.embedding.weight.mul_(0.1)
        positions = self.encoder.positions if isinstance(self.encoder, Transformer) else None
        if isinstance(positions, LearnedPositions):
            positions.table.mul_(0.05)

    def hidden(self, tokens: Tensor, layout: Layout) -> Tensor:
        """The encoder's output. tokens: (B, T); returns (B, T, D)."""
        return self.encoder(self.embedding(tokens), layout)

    def forward(
        self, tokens: Tensor, layout: Layout, first: Tensor, masked: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Classes of the texts, and what tokens stood at some places (masked language modelling).

        Both in one call: it is where a sharded network gathers its weights.

        Args:
            tokens: (B, T).
            layout: of the tokens.
            first: (N,) as in `pool`.
            masked: (B, T) bool, the places whose tokens are to be named; None for none.

        Returns logits (N, V), texts in row-major order; with `masked` also logits over the vocabulary,
        (places, vocabulary).
        """
        x = self.hidden(tokens, layout)
        logits = self.output(self.dropout(pool(x, layout, first, self.pooling)))
        return logits if masked is None else (logits, self.embedding.logits(x[masked]))


class ImageClassifier(nn.Module):
    """Images to class logits through patches: ViT (Dosovitskiy et al. 2021).

    Args:
        config: shape of the encoder; its max_length must hold a class token and all patches.
        size: side of the square images, in pixels.
        patch: side of a patch.
        channels: 1 for grey, 3 for colour.
        classes: number of classes V.
        pooling: "cls" reads the class token, "mean" all tokens.
    """

    def __init__(
        self,
        config: TransformerConfig,
        size: int,
        patch: int,
        channels: int,
        classes: int,
        pooling: Pooling = "cls",
    ) -> None:
        super().__init__()
        self.config, self.pooling = config, pooling
        self.embedding = PatchEmbedding(size, patch, channels, config.dim)
        if self.embedding.length > config.max_length:
            raise ValueError(
                f"an image of {size} x {size} in patches of {patch} has {self.embedding.length} tokens, more than the "
                f"model's {config.max_length} positions: raise backbone.max_length or patch"
            )
        self.encoder = stack_for(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = zero_linear(config.dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, size, size); returns logits (B, V)."""
        x = self.embedding(images)
        batch, length = x.shape[:2]
        layout = Layout.full(batch, length, x.device)
        first = torch.arange(batch, device=x.device) * length
        x = pool(self.encoder(x, layout), layout, first, self.pooling)
        return self.output(self.dropout(x))


def zero_linear(dim: int, classes: int) -> nn.Linear:
    """An output layer that starts at even odds: large random logits would only have to be unlearned."""
    layer = nn.Linear(dim, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
