"""From tokens and pixels to vectors, and from vectors to logits.

Letters: B batch, T length, D width, V vocabulary, C channels, P patch side.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfzoo.backbone import linear


class TokenEmbedding(nn.Module):
    """One learned vector per token, shared with the output layer where the model ties them (Press and Wolf 2017).

    Args:
        vocabulary: number of tokens V.
        dim: width D.
        scale: what vectors are multiplied by; none: sqrt(D) (Vaswani et al. 2017, section 3.4). Stored with variance
            1 / D they then match positions in size, and serve as output weights that give logits of unit variance.
    """

    def __init__(self, vocabulary: int, dim: int, scale: float | None = None) -> None:
        super().__init__()
        self.scale = math.sqrt(dim) if scale is None else scale
        self.weight = nn.Parameter(torch.randn(vocabulary, dim) * dim**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (B, T) long; returns (B, T, D)."""
        return F.embedding(tokens, self.weight) * self.scale

    def logits(self, x: Tensor) -> Tensor:
        """The same vectors as output weights. x: (..., D); returns (..., V)."""
        return linear(x, self.weight)


Tying = Literal["none", "output", "all"]
"""Of a translator: "output" shares the target embedding with the output layer, "all" shares it with the source too, for
which both need one vocabulary."""


def tied(
    dim: int, source: int, target: int, tie: Tying
) -> tuple[TokenEmbedding, TokenEmbedding, TokenEmbedding]:
    """Embeddings of a target, of a source, and the output layer; source, target: numbers of tokens.

    Raises ValueError where vocabularies that differ are to share one.
    """
    if tie == "all" and source != target:
        raise ValueError(
            f"tie: all needs one vocabulary, not {source} source and {target} target tokens; "
            "set data.shared_vocabulary to true, or tie to output"
        )
    written = TokenEmbedding(target, dim)
    read = written if tie == "all" else TokenEmbedding(source, dim)
    return written, read, TokenEmbedding(target, dim) if tie == "none" else written


class PatchEmbedding(nn.Module):
    """An image as a sequence: square patches, projected, behind a class token (Dosovitskiy et al. 2021)."""

    def __init__(self, size: int, patch: int, channels: int, dim: int) -> None:
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(
                f"patch must divide the image: {patch} does not divide {size}; "
                f"possible are {', '.join(str(n) for n in range(1, size + 1) if size % n == 0)}"
            )
        self.size, self.channels, self.grid = size, channels, size // patch
        self.project = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        nn.init.normal_(self.project.weight, std=(channels * patch**2) ** -0.5)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]
        self.class_token = nn.Parameter(torch.randn(dim) * 0.02)

    @property
    def length(self) -> int:
        """Tokens an image becomes, the class token included."""
        return self.grid**2 + 1

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, size, size); returns (B, 1 + (size / P)^2, D), class token first, patches row by row."""
        if images.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(
                f"images must be {self.channels} x {self.size} x {self.size}, "
                f"not {' x '.join(map(str, images.shape[1:]))}"
            )
        # Pixels come in full precision, whatever the weights have.
        patches = self.project(images.type_as(self.project.weight)).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(images), 1, -1), patches], dim=1)
