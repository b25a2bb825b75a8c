"""Packed weights give what the weights themselves give, and are used for single new tokens of a decoding alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tfzoo.backbone import Linear, Packs, linear


def few(layer: Linear, rows: int = 3, length: int = 1) -> torch.Tensor:
    return torch.randn(rows, length, layer.in_features)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 16, 200])
def test_packed_weights_give_the_same(bias, rows):
    layer, packs = Linear(48, 80, bias=bias), Packs()
    with torch.no_grad(), packs.used():
        for count in (rows, 1, 5):  # sentences end, beams branch
            x = few(layer, count)
            expected = F.linear(x, layer.weight, layer.bias)
            assert torch.allclose(layer(x), expected, atol=1e-5)
    assert len(packs.packed) <= 1


def test_a_part_of_a_weight_is_packed_by_itself():
    layer, packs = Linear(16, 48), Packs()
    x = few(layer)
    with torch.no_grad(), packs.used():
        for part in (slice(0, 16), slice(16, 48)):
            found = linear(x, layer.weight[part], layer.bias[part])
            assert torch.allclose(
                found, F.linear(x, layer.weight, layer.bias)[..., part], atol=1e-5
            )


def test_everything_else_goes_by_the_weight_itself():
    layer, packs = Linear(16, 16), Packs()
    with packs.used():
        layer(few(layer)).sum().backward()  # to be learned from
        assert layer.weight.grad is not None
        with torch.no_grad():
            layer(few(layer, length=2))  # a prompt
            layer(few(layer)[:, 0])
            layer.double()(few(layer).double())
            with torch.autocast("cpu", torch.bfloat16):
                layer.float()(few(layer))
    with torch.no_grad():
        layer(few(layer))
    assert not packs.packed


def test_weights_that_are_computed_are_not_packed():
    layer, packs = Linear(16, 16), Packs()
    torch.nn.utils.parametrizations.weight_norm(layer)
    x = few(layer)
    with torch.no_grad(), packs.used():
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert not packs.packed


def test_weights_that_change_are_packed_anew_by_the_next_decoding():
    layer = Linear(16, 16)
    x = few(layer)
    with torch.no_grad():
        for _ in range(2):
            with Packs().used():
                assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
            layer.weight.mul_(2)
