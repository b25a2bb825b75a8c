"""One block: attention, optionally attention to a memory, feed-forward, each in a residual connection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfzoo.backbone.attention import Attention
from tfzoo.backbone.cache import CrossCache, SelfCache
from tfzoo.backbone.config import TransformerConfig
from tfzoo.backbone.linear import Linear
from tfzoo.backbone.positions import Rotation
from tfzoo.layout import Mask


def norm_for(config: TransformerConfig) -> nn.Module:
    """The normalisation that `config` names, over the last dimension."""
    if config.norm == "none":
        return nn.Identity()
    if config.norm == "rms":
        return nn.RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps, bias=config.bias)


class FeedForward(nn.Module):
    """Two matrices around an activation, applied to each position alone (Vaswani et al. 2017, section 3.3).

    SwiGLU (Shazeer 2020) multiplies silu of one half of the first product with the other half.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        hidden = config.feed_forward_dim
        width = 2 * hidden if config.activation == "swiglu" else hidden
        self.expand = Linear(config.dim, width, bias=config.bias)
        self.output = Linear(hidden, config.dim, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, D); returns (B, T, D)."""
        x = self.expand(x)
        if self.activation == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            x = F.silu(gate) * x
        elif self.activation == "relu":
            x = F.relu(x)
        elif self.activation == "gelu_tanh":
            x = F.gelu(x, approximate="tanh")
        elif self.activation == "gelu":
            x = gelu(x)
        return self.output(x)


TOKEN = 4096
"""Numbers, of a decoded token or two, that are computed sooner than oneDNN begins."""


def gelu(x: Tensor) -> Tensor:
    """x times the probability that a standard normal variable is below x (Hendrycks and Gimpel 2016); any shape."""
    if (
        x.numel() > TOKEN
        or x.numel() % 2
        or torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or not x.is_cpu
    ):
        return F.gelu(x)
    # What lies in order torch leaves to oneDNN; the same numbers as two columns it computes itself.
    return F.gelu(x.reshape(2, -1).t()).t().view(x.shape)


class Residual(nn.Module):
    """A sublayer inside its residual connection (He et al. 2016), normalised before it or after the sum."""

    def __init__(self, config: TransformerConfig, sublayer: nn.Module) -> None:
        super().__init__()
        self.placement, self.adds = config.norm_placement, config.residual
        self.norm = norm_for(config)
        self.sublayer = sublayer
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, *args) -> Tensor:
        """x: (B, T, D), args: what else the sublayer takes; returns (B, T, D)."""
        before = self.norm(x) if self.placement == "pre" else x
        out = self.sublayer(before, *args)
        if self.training:  # asked here, for a decoding comes by for every token
            out = self.dropout(out)
        if self.adds:
            out = x + out
        return out if self.placement == "pre" else self.norm(out)


class Block(nn.Module):
    """The unit of the stack, and of compiling, checkpointing and sharding."""

    def __init__(self, config: TransformerConfig, cross: bool = False) -> None:
        super().__init__()
        self.self_attention = Residual(config, Attention(config))
        self.cross_attention = Residual(config, Attention(config)) if cross else None
        self.feed_forward = Residual(config, FeedForward(config)) if config.hidden != 0 else None

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        rotation: Rotation | None = None,
        memory: Tensor | None = None,
        memory_mask: Mask | None = None,
        cache: tuple[SelfCache, CrossCache] | None = None,
    ) -> Tensor:
        """x: (B, T, D), memory: (B, S, D) in a block with cross-attention; returns (B, T, D)."""
        self_cache, cross_cache = cache or (None, None)
        x = self.self_attention(x, mask, rotation, None, self_cache)
        if self.cross_attention is not None:
            x = self.cross_attention(x, memory_mask, None, memory, cross_cache)
        return x if self.feed_forward is None else self.feed_forward(x)
