"""The stack that a config names, and the units that it is made of."""

from __future__ import annotations

from torch import nn

from tfzoo.backbone.block import Block
from tfzoo.backbone.config import TransformerConfig
from tfzoo.backbone.recurrent import Recurrent, RecurrentLayer
from tfzoo.backbone.transformer import Transformer

Stack = Transformer | Recurrent


def stack_for(config: TransformerConfig, *, causal: bool = False, cross: bool = False) -> Stack:
    """The network that `config` names; causal, cross: as `Transformer` has them."""
    kind = Transformer if config.recurrence is None else Recurrent
    return kind(config, causal=causal, cross=cross)


def units(module: nn.Module) -> list[nn.Module]:
    """The blocks of the Transformers, and the layers of the recurrent networks, in a module.

    They are what is checkpointed and sharded one by one.
    """
    return [part for part in module.modules() if isinstance(part, Block | RecurrentLayer)]
