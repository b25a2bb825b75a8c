"""A product with few rows, computed in parts, is the product; everything else is torch's own."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.overrides import TorchFunctionMode

from tfzoo.backbone import Linear, linear, weights_stay
from tfzoo.backbone.linear import FEW, FLAT, MANY, SMALL, parted

WIDE = SMALL // 48 // 8 * 8 + 8  # outputs of a layer just large enough


class Spread(torch.Tensor):
    """As a tensor is that lies on several devices."""


class Products(TorchFunctionMode):
    """Counts torch.nn.functional.linear and products of several matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = self.parts = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.whole += function is F.linear
        self.parts += function in (torch.bmm, torch.baddbmm)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [WIDE, WIDE + 3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (FEW, 1), (FEW + 1, 1), (2, 5), (MANY, 1), ()])
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL has such products")
def test_products_with_few_rows_are_made_of_parts(bias, outputs, shape):
    layer = Linear(48, outputs, bias=bias)
    x = torch.randn(*shape, 48)
    with torch.no_grad(), Products() as made:
        found = layer(x)
    assert (made.parts, made.whole) == (1, int(outputs % 8 > 0))
    assert found.is_contiguous()
    assert torch.allclose(found, F.linear(x, layer.weight, layer.bias), atol=1e-5)


def test_some_rows_of_a_weight_are_a_weight():
    layer = Linear(48, 3 * WIDE)
    x = torch.randn(2, 1, 48)
    with torch.no_grad():
        for part in (slice(0, WIDE), slice(WIDE, None)):
            found = linear(x, layer.weight[part], layer.bias[part])
            whole = F.linear(x, layer.weight, layer.bias)
            assert torch.allclose(found, whole[..., part], atol=1e-5)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL has such products")
def test_rows_may_lie_anywhere():
    layer, x, many = Linear(48, WIDE), torch.randn(3, 2, 48), torch.randn(20, 2, 48)
    with torch.no_grad():
        for rows in (
            x[:, -1:],
            x.transpose(0, 1),
            torch.randn(3, 96)[:, ::2],
            x[1, 1].expand(3, 48),
            many[:, -1:],
        ):
            with Products() as made:
                found = layer(rows)
            assert made.parts == 1
            assert torch.allclose(found, F.linear(rows, layer.weight, layer.bias), atol=1e-5)


@torch.no_grad()
def test_rows_of_another_width_are_refused_as_ever():
    for shape in ((1, 60), (5, 50), (3, 1, 50), (2, 24)):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            Linear(48, WIDE)(torch.randn(shape))
    assert Linear(0, 5)(torch.randn(2, 0)).shape == (2, 5)
    assert Linear(48, WIDE)(torch.randn(0, 48)).shape == (0, WIDE)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL has such products")
def test_a_weight_with_few_outputs_for_each_row_is_multiplied_whole():
    layer = Linear(WIDE, 48)
    with torch.no_grad(), Products() as made:
        layer(torch.randn(48 // FLAT, WIDE))
        assert (made.parts, made.whole) == (1, 0)
        layer(torch.randn(48 // FLAT + 1, WIDE))
    assert (made.parts, made.whole) == (1, 1)


def test_everything_else_is_torchs_own():
    layer, small = Linear(48, WIDE), Linear(48, 48)
    x = torch.randn(2, 1, 48)
    with Products() as made:
        layer(x).sum().backward()  # to be learned from
        with torch.no_grad():
            small(x)
            layer(torch.randn(MANY + 1, 48))
            linear(x, torch.randn(48, WIDE).t())
            with torch.autocast("cpu", torch.bfloat16):
                layer(x)
            with mock.patch(f"{Linear.__module__}.MKL", False):
                layer(x)
            linear(x, torch.randn(WIDE, 48).as_subclass(Spread))
            Linear(48, WIDE, device="meta")(x.to("meta"))
            layer.double()(x.double())
    assert (made.parts, made.whole) == (0, 9)


def test_a_compiled_layer_is_one_product():
    layer, seen = Linear(48, WIDE), []

    def backend(graph, _):
        seen.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    with torch.no_grad(), weights_stay():
        torch.compile(layer, backend=backend, fullgraph=True)(torch.randn(1, 48))
    assert seen == [F.linear]


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(48, WIDE), (48, WIDE + 3), (48, 48), (WIDE, 48)])
def test_where_weights_stay_a_layer_is_what_it_is_elsewhere(inputs, outputs, bias):
    layer = Linear(inputs, outputs, bias=bias)
    with weights_stay():
        for shape in ((1, 1), (3, 1), (FEW + 1, 1), (MANY + 1,), (0,), ()):
            x = torch.randn(*shape, inputs)
            found = layer(x)
            assert found.is_contiguous()
            assert torch.allclose(found, F.linear(x, layer.weight, layer.bias), atol=1e-5)
        layer.weight.mul_(2)
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            layer(torch.randn(2, inputs // 2))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL has such products")
@torch.no_grad()
def test_where_weights_stay_a_layer_is_asked_once():
    layers, x = [Linear(48, WIDE), Linear(48, 48)], torch.randn(1, 48)
    with mock.patch(f"{Linear.__module__}.parted", wraps=parted) as asked:
        for _ in range(2):
            with weights_stay():
                for layer in 3 * layers:
                    layer(x)
        assert asked.call_count == 4
        layers[0](x)
        assert asked.call_count == 5


def test_where_weights_stay_what_is_learned_from_or_half_as_precise_is_torchs_own():
    layer, x = Linear(48, WIDE), torch.randn(1, 48)
    with Products() as made:
        with weights_stay():
            layer(x).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), weights_stay():
            assert layer(x).dtype == torch.bfloat16
    assert (made.parts, made.whole) == (0, 2)
    with torch.no_grad(), weights_stay(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    layer.zero_grad()
    with torch.no_grad(), weights_stay():
        layer(x)
        with torch.enable_grad():
            layer(x).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_where_weights_stay_one_that_is_computed_from_others_follows_them():
    layer, x = weight_norm(Linear(48, WIDE)), torch.randn(1, 48)
    with weights_stay():
        before = layer(x)
        layer.parametrizations.weight.original0.mul_(2)
        torch.testing.assert_close(layer(x) - layer.bias, 2 * (before - layer.bias))
