"""What can be taken out of a Transformer is out, and the rest is as it was."""

import pytest
import torch
from torch import nn

from tfzoo.backbone import Attention, Block, FeedForward, Transformer, TransformerConfig, capture
from tfzoo.layout import Layout, Mask

TINY = {"dim": 32, "depth": 2, "heads": 4, "dropout": 0.0, "max_length": 16}


def made(kind: type[nn.Module], **changes) -> nn.Module:
    torch.manual_seed(0)
    return kind(TransformerConfig(**(TINY | changes)))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))


def test_a_scale_of_ones_own_is_what_scores_are_multiplied_by(x):
    usual, same, one = (made(Attention, attention_scale=scale) for scale in (None, 8**-0.5, 1.0))
    torch.testing.assert_close(usual(x, Mask()), same(x, Mask()))
    with capture(one) as weights:
        one(x, Mask())
    query, key, _ = one.project(x).split(one.widths, dim=-1)
    scores = query[..., :8] @ key[..., :8].transpose(1, 2)
    torch.testing.assert_close(weights[""][:, 0], scores.softmax(-1))


def test_without_residuals_a_sublayer_stands_alone(x):
    for placement in ("pre", "post"):
        with_, without = (
            made(Block, norm_placement=placement, norm="none", hidden=0, residual=residual)
            for residual in (True, False)
        )
        torch.testing.assert_close(with_(x, Mask()), x + without(x, Mask()))


def test_without_a_feed_forward_layer_attention_is_all_there_is():
    block = made(Block, hidden=0)
    assert not [part for part in block.modules() if isinstance(part, FeedForward)]


def test_without_an_activation_the_feed_forward_layer_is_linear(x):
    layer = made(FeedForward, activation="none", bias=False)
    torch.testing.assert_close(layer(2 * x + x.flip(0)), 2 * layer(x) + layer(x).flip(0))


def test_without_norms_there_is_none():
    stack = made(Transformer, norm="none")
    assert not [part for part in stack.modules() if isinstance(part, nn.LayerNorm | nn.RMSNorm)]


@pytest.mark.parametrize("causal", [True, False])
def test_who_sees_whom_can_be_said_otherwise_than_the_task_does(causal, x):
    torch.manual_seed(0)
    stack = Transformer(TransformerConfig(**TINY, causal=causal), causal=not causal)
    changed = x.clone()
    changed[:, -1] += 1
    one, other = (stack(value, Layout.full(2, 7)) for value in (x, changed))
    assert torch.equal(one[:, 0], other[:, 0]) is causal


def test_weights_start_as_large_as_the_stream_needs():
    """Where sublayers are not added up, each keeps the scale of its input."""
    added, alone = (made(Transformer, residual=residual) for residual in (True, False))
    ratio = (
        alone.blocks[0].feed_forward.sublayer.output.weight
        / added.blocks[0].feed_forward.sublayer.output.weight
    )
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0))
