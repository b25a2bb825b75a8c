"""The Transformer itself, and recurrent networks in its place, in pure torch: to be lifted out and used alone."""

from tfzoo.backbone.attention import Attention, capture, explicit, fused
from tfzoo.backbone.block import Block, FeedForward, Residual
from tfzoo.backbone.cache import Cache, CrossCache, SelfCache, StateCache
from tfzoo.backbone.config import Network, TransformerConfig
from tfzoo.backbone.linear import Linear, linear, weights_stay
from tfzoo.backbone.positions import (
    LearnedPositions,
    Positions,
    RotaryPositions,
    Rotation,
    SinusoidalPositions,
)
from tfzoo.backbone.recurrent import Recurrent, RecurrentLayer
from tfzoo.backbone.stack import Stack, stack_for, units
from tfzoo.backbone.transformer import Transformer

__all__ = [
    "Attention",
    "Block",
    "Cache",
    "CrossCache",
    "FeedForward",
    "LearnedPositions",
    "Linear",
    "Network",
    "Positions",
    "Recurrent",
    "RecurrentLayer",
    "Residual",
    "RotaryPositions",
    "Rotation",
    "SelfCache",
    "SinusoidalPositions",
    "Stack",
    "StateCache",
    "Transformer",
    "TransformerConfig",
    "capture",
    "explicit",
    "fused",
    "linear",
    "stack_for",
    "units",
    "weights_stay",
]
