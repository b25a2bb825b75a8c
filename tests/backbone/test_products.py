"""Attention as matrix products: it is the explicit kernel in bfloat16, in pieces of any size, forward and backward."""

import pytest
import torch

from tfzoo.backbone import Attention, TransformerConfig, explicit, fused, products
from tfzoo.layout import Mask

MASKS = ["nothing", "is_causal", "table", "hidden"]


def mask_of(name: str, rows: int, length: int, keys: int) -> Mask:
    table = torch.rand(rows, 1, length, keys) < 0.5
    table[..., 0] = True
    hidden = table.clone()
    hidden[0, :, 2] = False  # a query that may see nothing
    hidden[1] = False  # and a row of which none may
    return {
        "nothing": Mask(),
        "is_causal": Mask(is_causal=True),
        "table": Mask(visible=table, blind=False),
        "hidden": Mask(visible=hidden),
    }[name]


def inputs(rows: int = 3, length: int = 7, keys: int = 7, **kind) -> list[torch.Tensor]:
    """As `Attention` gives them: the heads of a token lie together."""
    shapes = [(rows, length, 2, 8), (rows, keys, 2, 8), (rows, keys, 2, 8)]
    return [torch.randn(shape, **kind).transpose(1, 2).requires_grad_() for shape in shapes]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=["whole", "rows", "queries", "both"])
def pieces(request, monkeypatch):
    """How the work is divided: not at all, by one row, by two queries."""
    if request.param in ("rows", "both"):
        monkeypatch.setattr(products, "WEIGHTS", 1)
    if request.param in ("queries", "both"):
        monkeypatch.setattr(products, "QUERIES", 2)


@pytest.mark.parametrize("name", MASKS)
def test_gradients_are_those_of_the_formula(name, pieces):
    mask = mask_of(name, 2, 3, 3)
    args = inputs(2, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: products._Products.apply(*x, mask), args)


@pytest.mark.parametrize(
    ("name", "keys"), [(name, keys) for name in MASKS for keys in (7, 5) if (name, keys) != ("is_causal", 5)]
)  # fmt: skip
def test_it_is_the_explicit_kernel(name, keys, pieces):
    mask = mask_of(name, 3, 7, keys)
    halves = inputs(3, 7, keys, dtype=torch.bfloat16)
    whole = [x.detach().float().requires_grad_() for x in halves]
    away = torch.randn(3, 2, 7, 8)
    out, expected = products.attend(*halves, mask), explicit(*whole, mask, 0.0)
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad((out * away).sum(), halves)
    wanted = torch.autograd.grad((expected * away).sum(), whole)
    for one, other in zip((out, *grads), (expected, *wanted), strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.float(), other, atol=4e-2, rtol=2e-2)
    if mask.visible is not None:
        assert not out[~mask.visible.any(-1).expand(3, 2, 7)].any()


@pytest.mark.parametrize("shape", [(1, 1, 7, 5), (3, 1, 1, 5), (1, 1, 1, 5)])
def test_a_row_of_a_mask_may_stand_for_all(shape, pieces):
    seen = torch.rand(shape) < 0.5
    seen[..., 0] = True
    args = inputs(3, 7, 5, dtype=torch.bfloat16)
    whole = Mask(visible=seen.expand(3, 1, 7, 5))
    for one, other in zip(
        *(torch.autograd.grad(products.attend(*args, mask).sum(), args) for mask in (Mask(visible=seen), whole)),
        strict=True,
    ):  # fmt: skip
        assert one.equal(other)


def test_pieces_cover_every_weight_that_may_be_seen_once(pieces):
    for causal in (False, True):
        query = torch.zeros(5, 2, 300, 8)
        seen = torch.zeros(5, 300, 300, dtype=torch.int)
        for rows, first, last, keys in products._pieces(query, query, Mask(is_causal=causal)):
            seen[rows, first:last, :keys] += 1
        assert seen.max() == 1
        assert bool(seen.all()) or (causal and bool(seen[:, *torch.tril_indices(300, 300)].all()))


def test_nothing_is_attended_to_by_nobody():
    for shape in ((0, 7, 7), (2, 0, 7), (2, 7, 0), (2, 0, 0)):
        args = inputs(*shape, dtype=torch.bfloat16)
        out = products.attend(*args, Mask())
        assert out.shape == args[0].shape
        grads = torch.autograd.grad(out.sum(), args)
        assert all(not part.any() for part in (out, *grads))


@pytest.fixture
def asked(monkeypatch):
    """How often it was taken, by a processor that has the units for it."""
    calls = []
    usual = products.attend
    monkeypatch.setattr(products, "_multiplies_halves", lambda: True)
    monkeypatch.setattr(products, "attend", lambda *args: calls.append(args) or usual(*args))
    return calls


def test_who_trains_in_halves_on_a_cpu_takes_it(asked):
    attention = Attention(TransformerConfig(dim=32, depth=1, heads=4))
    x = torch.randn(2, 6, 32)
    expected = attention(x, Mask(is_causal=True))
    assert not asked
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(x, Mask(is_causal=True))
        out.float().sum().backward()
        assert len(asked) == 1
        with torch.no_grad():
            attention(x, Mask(is_causal=True))
    torch.testing.assert_close(out.float(), expected, atol=2e-2, rtol=2e-2)
    assert all(weight.grad.isfinite().all() for weight in attention.parameters())
    attention.bfloat16()(x.bfloat16(), Mask(is_causal=True))
    assert len(asked) == 2


def test_who_does_not_leaves_it_to_torch(asked, monkeypatch):
    halves = inputs(dtype=torch.bfloat16)
    fused(*inputs(), Mask(), 0.0)
    fused(*halves, Mask(), 0.1)
    fused(halves[0], halves[1][:, :1], halves[2][:, :1], Mask(), 0.0)
    fused(*inputs(length=5, dtype=torch.bfloat16), Mask(is_causal=True), 0.0)
    with torch.autocast("cpu", torch.float16):
        fused(*inputs(), Mask(), 0.0)
    with torch.inference_mode():
        fused(*halves, Mask(), 0.0)
    monkeypatch.setattr(products, "_multiplies_halves", lambda: False)
    fused(*halves, Mask(), 0.0)
    assert not asked
