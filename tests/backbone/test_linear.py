"""A product with few rows, computed in parts, is the product; everything else is torch's own."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from tfzoo.backbone import Linear, linear
from tfzoo.backbone.linear import FEW, FLAT, MANY, SMALL

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


def test_rows_may_lie_anywhere():
    layer, x = Linear(48, WIDE), torch.randn(3, 2, 48)
    with torch.no_grad():
        for rows in (
            x[:, -1:],
            x.transpose(0, 1),
            x[..., ::2].repeat(1, 1, 2),
            x[1, 1].expand(3, 48),
        ):
            assert torch.allclose(layer(rows), F.linear(rows, layer.weight, layer.bias), atol=1e-5)


def test_everything_else_is_torchs_own():
    layer, small = Linear(48, WIDE), Linear(48, 48)
    x = torch.randn(2, 1, 48)
    with Products() as made:
        layer(x).sum().backward()  # to be learned from
        with torch.no_grad():
            small(x)
            layer(torch.randn(MANY + 1, 48))
            Linear(WIDE, 48)(torch.randn(48 // FLAT + 1, WIDE))
            linear(x, torch.randn(48, WIDE).t())
            with torch.autocast("cpu", torch.bfloat16):
                layer(x)
            with mock.patch(f"{Linear.__module__}.MKL", False):
                layer(x)
            linear(x, torch.randn(WIDE, 48).as_subclass(Spread))
            Linear(48, WIDE, device="meta")(x.to("meta"))
            layer.double()(x.double())
    assert (made.parts, made.whole) == (0, 10)


def test_a_compiled_layer_is_one_product():
    layer, seen = Linear(48, WIDE), []

    def backend(graph, _):
        seen.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    with torch.no_grad():
        torch.compile(layer, backend=backend, fullgraph=True)(torch.randn(1, 48))
    assert seen == [F.linear]
