"""Attention: its formula, its kernels, who it may look at, and looking at it."""

import math

import pytest
import torch
from torch import nn

from tfzoo.backbone import Attention, Transformer, TransformerConfig, capture, explicit, fused
from tfzoo.backbone.attention import attention_weights
from tfzoo.backbone.positions import RotaryPositions
from tfzoo.layout import Layout, Mask, lower

TINY = {"dim": 32, "depth": 2, "heads": 4, "dropout": 0.0}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def projected(heads: int, kv_heads: int, length: int = 6, keys: int = 6, **kind):
    """Queries, keys and values, each a leaf that gets a gradient."""
    shapes = [(2, heads, length, 8), (2, kv_heads, keys, 8), (2, kv_heads, keys, 8)]
    return [torch.randn(shape, **kind).requires_grad_() for shape in shapes]


def masks(length: int = 6, keys: int = 6) -> dict[str, Mask]:
    table = torch.rand(2, 1, length, keys) < 0.5
    table[:, :, :, 0] = True
    hidden = table.clone()
    hidden[0, :, 2] = False  # one query that may see nothing
    hidden[1] = False  # and a row of which none may
    return {"nothing": Mask(), "is_causal": Mask(True), "table": Mask(False, table), "hidden": Mask(False, hidden)}  # fmt: skip


@pytest.mark.parametrize("mask", ["nothing", "is_causal", "table", "hidden"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("device", DEVICES)
def test_explicit_kernel_equals_fused_kernel(kv_heads, mask, device):
    """In the output and in every gradient, fully masked rows included: these are 0 and never NaN."""
    inputs = projected(4, kv_heads, device=device)
    mask = Mask(*(part.to(device) if torch.is_tensor(part) else part for part in masks()[mask]))
    away = torch.randn(2, 4, 6, 8, device=device)
    results = []
    for kernel in (fused, explicit):
        out = kernel(*inputs, mask, 0.0)
        results.append((out, *torch.autograd.grad((out * away).sum(), inputs)))
    for one, other in zip(*results, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    if mask.visible is not None:
        blind = ~mask.visible.any(-1).expand(2, 4, 6)
        assert not results[0][0][blind].any()
        assert not results[1][0][blind].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mask", ["nothing", "is_causal", "table", "hidden"])
@pytest.mark.parametrize("kv_heads", [4, 1])
def test_kernels_in_half_precision(kv_heads, mask):
    inputs = projected(4, kv_heads, device="cuda", dtype=torch.bfloat16)
    mask = Mask(*(part.cuda() if torch.is_tensor(part) else part for part in masks()[mask]))
    for kernel in (fused, explicit):
        out = kernel(*inputs, mask, 0.0)
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), inputs))
        expected = kernel(*(x.float() for x in inputs), mask, 0.0)
        torch.testing.assert_close(out.float(), expected, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_kernels_are_the_papers_formula(kv_heads):
    """softmax(Q K^T / sqrt(E)) V, head by head; query head h reads key/value head h K // H."""
    query, key, value = projected(4, kv_heads, length=3, keys=5)
    out = torch.empty(2, 4, 3, 8)
    for b in range(2):
        for h in range(4):
            k, v = key[b, h * kv_heads // 4], value[b, h * kv_heads // 4]
            out[b, h] = (query[b, h] @ k.T / math.sqrt(8)).exp() @ v
            out[b, h] /= (query[b, h] @ k.T / math.sqrt(8)).exp().sum(-1, keepdim=True)
    for kernel in (fused, explicit):
        torch.testing.assert_close(
            kernel(query, key, value, Mask(), 0.0), out, atol=1e-5, rtol=1e-4
        )


def test_explicit_dropout_keeps_the_mean_and_only_acts_when_asked():
    query, key, value = (
        torch.randn(400, 1, 1, 8),
        torch.randn(400, 1, 64, 8),
        torch.ones(400, 1, 64, 8),
    )
    dropped = explicit(query, key, value, Mask(), 0.5)
    assert dropped.std() > 0.01
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    attention = Attention(TransformerConfig(**TINY, attention_dropout=0.5))
    x = torch.randn(1, 5, 32)
    assert not attention(x, Mask()).equal(attention(x, Mask()))
    attention.eval()
    assert attention(x, Mask()).equal(attention(x, Mask()))


def reference(attention: Attention) -> nn.MultiheadAttention:
    """torch's module with the same weights."""
    module = nn.MultiheadAttention(32, attention.heads, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(attention.project.weight)
        module.in_proj_bias.copy_(attention.project.bias)
    module.out_proj.load_state_dict(attention.output.state_dict())
    return module


@pytest.mark.parametrize("heads", [1, 4])
def test_self_attention_equals_torchs_module(heads):
    attention = Attention(TransformerConfig(**{**TINY, "heads": heads}))
    nn.init.normal_(attention.project.bias)
    x = torch.randn(2, 5, 32)
    expected = reference(attention)(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(attention(x, Mask()), expected, atol=1e-5, rtol=1e-4)


def test_cross_attention_equals_torchs_module_and_its_weights():
    attention = Attention(TransformerConfig(**TINY))
    nn.init.normal_(attention.project.bias)
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    layout = Layout.padded(torch.tensor([7, 4]), 7)
    expected, weights = reference(attention)(
        x, memory, memory, key_padding_mask=layout.segments == 0, average_attn_weights=False
    )
    mask = lower(Layout.full(2, 5), layout, causal=False)
    with capture(nn.ModuleDict({"one": attention})) as captured:
        out = attention(x, mask, memory=memory)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(captured["one"], weights, atol=1e-5, rtol=1e-4)


def test_grouped_heads_are_plain_heads_with_repeated_weights():
    grouped = Attention(TransformerConfig(**TINY, kv_heads=2, bias=False))
    plain = Attention(TransformerConfig(**TINY, bias=False))
    query, key, value = grouped.project.weight.split(grouped.widths)
    repeated = [w.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1) for w in (key, value)]
    with torch.no_grad():
        plain.project.weight.copy_(torch.cat([query, *repeated]))
        plain.output.load_state_dict(grouped.output.state_dict())
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(grouped(x, Mask(True)), plain(x, Mask(True)), atol=1e-5, rtol=1e-4)


def test_self_attention_is_attention_to_oneself_as_memory():
    attention = Attention(TransformerConfig(**TINY, kv_heads=2))
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(attention(x, Mask()), attention(x, Mask(), memory=x))


def test_a_rotation_turns_queries_and_keys_alone():
    """Rotating all positions by the same amount changes nothing: values are left as they are."""
    attention = Attention(TransformerConfig(**TINY, positions="rotary"))
    rotary = RotaryPositions(64, 8, base=10000.0)
    x = torch.randn(2, 5, 32)
    one = attention(x, Mask(True), rotary.rotation(Layout.full(2, 5)))
    other = attention(x, Mask(True), rotary.rotation(Layout.full(2, 5, start=40)))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one, attention(x, Mask(True)), atol=1e-3)


class TestCapture:
    def stack(self) -> Transformer:
        return Transformer(TransformerConfig(**TINY, kv_heads=2), causal=True, cross=True).eval()

    def run(self, stack: Transformer) -> torch.Tensor:
        memory_layout = Layout.padded(torch.tensor([4, 2]), 4)
        x = torch.linspace(-1, 1, 2 * 5 * 32).view(2, 5, 32)
        return stack(x, Layout.full(2, 5), x[:, :4].flip(1), memory_layout)

    def test_every_attention_is_named_and_its_rows_sum_to_one(self):
        stack = self.stack()
        with capture(stack) as weights:
            out = self.run(stack)
        torch.testing.assert_close(out, self.run(stack), atol=1e-5, rtol=1e-4)
        kinds = ["self_attention", "cross_attention"]
        assert list(weights) == [f"blocks.{b}.{kind}.sublayer" for b in range(2) for kind in kinds]
        for name, weight in weights.items():
            assert weight.shape == (2, 4, 5, 4 if "cross" in name else 5)
            assert weight.dtype == torch.float32
            assert not weight.requires_grad
            torch.testing.assert_close(weight.sum(-1), torch.ones(2, 4, 5))
        assert not weights["blocks.0.self_attention.sublayer"].triu(1).any()
        assert not weights["blocks.1.cross_attention.sublayer"][1, :, :, 2:].any()

    def test_the_newest_call_wins(self):
        stack = self.stack()
        with capture(stack) as weights:
            self.run(stack)
            stack(
                torch.randn(1, 3, 32), Layout.full(1, 3), torch.randn(1, 2, 32), Layout.full(1, 2)
            )
        assert weights["blocks.0.self_attention.sublayer"].shape == (1, 4, 3, 3)

    def test_kernels_come_back(self):
        stack = self.stack()
        with capture(stack), capture(stack):
            pass
        assert {a.kernel for a in attentions(stack)} == {fused}

    def test_kernels_come_back_after_an_error_and_each_its_own(self):
        stack = self.stack()
        first, *rest = attentions(stack)
        first.kernel = explicit
        with pytest.raises(TypeError), capture(stack):
            stack(None, Layout.full(1, 1))
        assert first.kernel is explicit
        assert {a.kernel for a in rest} == {fused}

    def test_gradients_pass_through_a_captured_call(self):
        stack = self.stack()
        with capture(stack):
            self.run(stack).sum().backward()
        assert all(p.grad is not None for p in stack.parameters())


def attentions(module: nn.Module) -> list[Attention]:
    return [part for part in module.modules() if isinstance(part, Attention)]


def test_weights_of_a_row_that_may_see_nothing_are_zero():
    query, key, _ = projected(4, 2)
    weights = attention_weights(query, key, masks()["hidden"])
    assert not weights[1].any()
    assert not weights[0, :, 2].any()
    torch.testing.assert_close(weights[0, :, 3].sum(-1), torch.ones(4))
