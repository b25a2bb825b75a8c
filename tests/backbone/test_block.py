"""The block gives torch's layers' output for torch's layers' weights, and holds the parameters the paper counts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tfzoo.backbone import Block, FeedForward, TransformerConfig
from tfzoo.backbone.block import TOKEN, gelu
from tfzoo.layout import Layout, Mask, lower

TINY = {"dim": 32, "depth": 2, "heads": 4, "hidden": 48, "dropout": 0.0}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def jitter(module: nn.Module) -> None:
    """Away from the starting point, where biases are 0 and norms 1 and mistakes hide."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def torchs(kind, placement: str, activation: str):
    """Torch's layer of a tiny shape, away from its starting point."""
    layer = kind(
        32,
        4,
        48,
        dropout=0.0,
        activation=activation,
        norm_first=placement == "pre",
        batch_first=True,
    )
    jitter(layer)
    return layer


def load(block: Block, layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> None:
    """Copy the weights of torch's layer."""
    ours: dict[str, nn.Module] = {"self_attn": block.self_attention}
    if block.cross_attention is not None:
        ours["multihead_attn"] = block.cross_attention
    for index, (name, part) in enumerate(ours.items(), start=1):
        theirs = getattr(layer, name)
        part.norm.load_state_dict(getattr(layer, f"norm{index}").state_dict())
        part.sublayer.project.load_state_dict(
            {"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias}
        )
        part.sublayer.output.load_state_dict(theirs.out_proj.state_dict())
    feed_forward = block.feed_forward
    feed_forward.norm.load_state_dict(getattr(layer, f"norm{len(ours) + 1}").state_dict())
    feed_forward.sublayer.expand.load_state_dict(layer.linear1.state_dict())
    feed_forward.sublayer.output.load_state_dict(layer.linear2.state_dict())


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_torchs_encoder_layer(placement, activation, causal):
    layer = torchs(nn.TransformerEncoderLayer, placement, activation)
    block = Block(TransformerConfig(**TINY, norm_placement=placement, activation=activation))
    load(block, layer)
    x = torch.randn(3, 6, 32)
    layout = Layout.padded(torch.tensor([6, 3, 5]), 6)
    hidden = nn.Transformer.generate_square_subsequent_mask(6).isinf() if causal else None
    expected = layer(x, src_mask=hidden, src_key_padding_mask=layout.segments == 0)
    real = layout.segments > 0
    out = block(x, lower(layout, layout, causal))
    torch.testing.assert_close(out[real], expected[real], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_equals_torchs_decoder_layer(placement, activation):
    layer = torchs(nn.TransformerDecoderLayer, placement, activation)
    config = TransformerConfig(**TINY, norm_placement=placement, activation=activation)
    block = Block(config, cross=True)
    load(block, layer)
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    layout, memory_layout = Layout.full(2, 5), Layout.padded(torch.tensor([7, 4]), 7)
    expected = layer(
        x,
        memory,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5).isinf(),
        memory_key_padding_mask=memory_layout.segments == 0,
    )
    out = block(
        x,
        lower(layout, layout, causal=True),
        memory=memory,
        memory_mask=lower(layout, memory_layout, causal=False),
    )
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("gelu_tanh", lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2),
        ("swiglu", lambda x: x[..., :48] * x[..., :48].sigmoid() * x[..., 48:]),
    ],
)  # fmt: skip
def test_feed_forward_is_its_formula(activation, function):
    layer = FeedForward(TransformerConfig(**TINY, activation=activation))
    x = torch.randn(2, 3, 32)
    expected = F.linear(function(layer.expand(x)), layer.output.weight, layer.output.bias)
    torch.testing.assert_close(layer(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), expected)


@torch.inference_mode()
def test_gelu_is_torchs_of_any_numbers():
    rows = torch.randn(4, TOKEN)
    for x in (rows, rows[:1], rows[:1, :-1], rows[:1, ::2], rows[:, :8].t(), rows[0, :2], rows[:0]):
        found = gelu(x)
        assert found.shape == x.shape
        torch.testing.assert_close(found, F.gelu(x))


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_norms_are_where_they_are_said_to_be(placement, norm):
    """Post-norm leaves a normalised stream; pre-norm leaves its input reachable as it was."""
    block = Block(TransformerConfig(**TINY, norm_placement=placement, norm=norm))
    x = 3 * torch.randn(2, 5, 32)
    out = block(x, Mask())
    if placement == "post":
        torch.testing.assert_close(out.square().mean(-1), torch.ones(2, 5), atol=1e-3, rtol=0)
    else:
        for part in (block.self_attention, block.feed_forward):
            nn.init.zeros_(part.sublayer.output.weight)
            nn.init.zeros_(part.sublayer.output.bias)
        assert block(x, Mask()).equal(x)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("cross", [False, True])
def test_parameters_are_those_of_the_paper(cross):
    """4 D^2 an attention, 2 D F the feed-forward; with biases 4 D and F + D, and 2 D a norm."""
    d, f, attentions = 32, 48, 1 + cross
    matrices = attentions * 4 * d**2 + 2 * d * f
    assert parameters(Block(TransformerConfig(**TINY, bias=False), cross)) == (
        matrices + (attentions + 1) * d
    )
    biases = attentions * 4 * d + (f + d) + (attentions + 1) * 2 * d
    assert parameters(Block(TransformerConfig(**TINY), cross)) == matrices + biases


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_parameters_of_grouped_heads_and_swiglu(kv_heads, norm):
    config = TransformerConfig(
        **TINY, kv_heads=kv_heads, norm=norm, activation="swiglu", bias=False
    )
    d, e, f = 32, 8, 48
    assert parameters(Block(config)) == 2 * d**2 + 2 * d * kv_heads * e + 3 * d * f + 2 * d


def test_dropout_acts_on_every_sublayer_in_training_only():
    block = Block(TransformerConfig(**{**TINY, "dropout": 0.999}))
    x = torch.randn(1, 4, 32)
    torch.testing.assert_close(block(x, Mask()), x, atol=300.0, rtol=0)
    assert (block(x, Mask()) == x).float().mean() > 0.9
    block.eval()
    assert not (block(x, Mask()) == x).any()
