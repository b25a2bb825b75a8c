"""The Transformer itself, in pure torch: it can be lifted out and used alone."""

from tfzoo.backbone.attention import Attention, capture, explicit, fused
from tfzoo.backbone.block import Block, FeedForward, Residual
from tfzoo.backbone.cache import Cache, CrossCache, SelfCache
from tfzoo.backbone.config import TransformerConfig
from tfzoo.backbone.linear import Linear, Packs, linear
from tfzoo.backbone.positions import (
    LearnedPositions,
    Positions,
    RotaryPositions,
    Rotation,
    SinusoidalPositions,
)
from tfzoo.backbone.transformer import Transformer

__all__ = [
    "Attention",
    "Block",
    "Cache",
    "CrossCache",
    "FeedForward",
    "LearnedPositions",
    "Linear",
    "Packs",
    "Positions",
    "Residual",
    "RotaryPositions",
    "Rotation",
    "SelfCache",
    "SinusoidalPositions",
    "Transformer",
    "TransformerConfig",
    "capture",
    "explicit",
    "fused",
    "linear",
]
