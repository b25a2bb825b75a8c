"""The laws of the stack, for every kind of position, norm placement and number of key/value heads."""

import itertools

import pytest
import torch
from packed_rows import close, packed, sequences

from tfzoo.backbone import Transformer, TransformerConfig
from tfzoo.layout import Layout

POSITIONS = ["sinusoidal", "learned", "rotary", "none"]
VARIANTS = [
    pytest.param(
        {"positions": positions, "norm_placement": placement, "kv_heads": kv_heads},
        id=f"{positions}-{placement}-{kv_heads}",
    )
    for (positions, placement), kv_heads in zip(
        itertools.product(POSITIONS, ["pre", "post"]), itertools.cycle([4, 2, 1]), strict=False
    )
]


def stack(causal: bool = False, cross: bool = False, **changes) -> Transformer:
    torch.manual_seed(0)
    base = {"dim": 32, "depth": 2, "heads": 4, "max_length": 32, "dropout": 0.0}
    return Transformer(TransformerConfig(**(base | changes)), causal=causal, cross=cross).eval()


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("chunks", [[9], [4, 1, 1, 1, 1, 1], [1] * 9, [2, 5, 2]], ids=str)
@torch.no_grad()
def test_cached_equals_full(changes, cross, chunks):
    model = stack(causal=True, cross=cross, **changes)
    x, memory = torch.randn(2, 9, 32), torch.randn(2, 6, 32)
    read = (memory, Layout.padded(torch.tensor([6, 3]), 6)) if cross else ()
    expected = model(x, Layout.full(2, 9), *read)
    cache, start, parts = model.cache(capacity=9), 0, []
    for chunk in chunks:
        new = x[:, start : start + chunk]
        parts.append(model(new, Layout.full(2, chunk, start=start), *read, cache=cache))
        start += chunk
    close(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_cached_after_padded_prompts_equals_each_alone(changes):
    model = stack(causal=True, **changes)
    lengths = [5, 2, 1]
    x, new = torch.randn(3, 5, 32), torch.randn(3, 4, 32)
    cache = model.cache(capacity=9)
    model(x, Layout.padded(torch.tensor(lengths), 5), cache=cache)
    steps = []
    for step in range(4):
        position = torch.tensor(lengths)[:, None] + step
        layout = Layout(position, torch.ones_like(position))
        steps.append(model(new[:, step : step + 1], layout, cache=cache))
    for row, length in enumerate(lengths):
        alone = torch.cat([x[row : row + 1, :length], new[row : row + 1]], dim=1)
        expected = model(alone, Layout.full(1, length + 4))[:, length:]
        close(torch.cat(steps, dim=1)[row : row + 1], expected)


@pytest.mark.parametrize("chunk", [1, 3])
@torch.no_grad()
def test_reordered_rows_go_on_as_if_they_had_been_there_all_along(chunk):
    model = stack(causal=True, cross=True, positions="rotary", kv_heads=2)
    x, memory = torch.randn(2, 4, 32), torch.randn(2, 6, 32)
    memory_layout = Layout.padded(torch.tensor([6, 3]), 6)
    cache = model.cache(capacity=4 + chunk)
    model(x, Layout.full(2, 4), memory, memory_layout, cache)
    rows = torch.tensor([1, 1, 0])
    cache.reorder(rows)
    new = torch.randn(3, chunk, 32)
    layout = Layout.full(3, chunk, start=4)
    got = model(new, layout, memory, memory_layout.select(rows), cache)
    whole = torch.cat([x[rows], new], dim=1)
    expected = model(whole, Layout.full(3, 4 + chunk), memory[rows], memory_layout.select(rows))
    close(got, expected[:, 4:])


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_packed_equals_separate(changes, causal):
    model = stack(causal=causal, **changes)
    layout = packed([3, 4, 1], [2, 5], [8], width=8)
    x = torch.randn(3, 8, 32)
    out = model(x, layout)
    for row, place in sequences(layout):
        alone = x[row : row + 1, place]
        close(out[row : row + 1, place], model(alone, Layout.full(1, alone.shape[1])))


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_packed_cross_attention_equals_separate(changes, causal):
    """Target and source sequences of a pair share a row and a segment number, not their places."""
    model = stack(causal=causal, cross=True, **changes)
    layout, memory_layout = packed([3, 4], [1, 2, 3], width=8), packed([5, 1], [2, 2, 4], width=9)
    x, memory = torch.randn(2, 8, 32), torch.randn(2, 9, 32)
    out = model(x, layout, memory, memory_layout)
    pairs = list(zip(sequences(layout), sequences(memory_layout), strict=True))
    assert len(pairs) == 5
    for (row, place), (memory_row, memory_place) in pairs:
        assert row == memory_row
        one, read = x[row : row + 1, place], memory[row : row + 1, memory_place]
        layouts = [Layout.full(1, part.shape[1]) for part in (one, read)]
        close(out[row : row + 1, place], model(one, layouts[0], read, layouts[1]))


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_padded_equals_alone(changes, causal):
    model = stack(causal=causal, cross=True, **changes)
    layout = Layout.padded(torch.tensor([7, 3, 1]), 7)
    memory_layout = Layout.padded(torch.tensor([2, 5, 4]), 5)
    x, memory = torch.randn(3, 7, 32), torch.randn(3, 5, 32)
    out = model(x, layout, memory, memory_layout)
    for row, (length, read) in enumerate([(7, 2), (3, 5), (1, 4)]):
        expected = model(
            x[row : row + 1, :length],
            Layout.full(1, length),
            memory[row : row + 1, :read],
            Layout.full(1, read),
        )
        close(out[row : row + 1, :length], expected)


def test_padding_gives_finite_gradients_and_takes_none():
    """Also where a padded query finds no padding in the memory, and so nothing that it may see."""
    model = stack(causal=True, cross=True)
    layout, memory_layout = Layout.padded(torch.tensor([5, 2, 0]), 5), Layout.full(3, 4)
    x = torch.randn(3, 5, 32, requires_grad=True)
    memory = torch.randn(3, 4, 32, requires_grad=True)
    out = model(x, layout, memory, memory_layout)
    assert out.isfinite().all()
    (out[layout.segments > 0] @ torch.randn(32)).sum().backward()
    assert x.grad is not None
    assert not x.grad[layout.segments == 0].any()
    assert memory.grad is not None
    assert not memory.grad[2].any()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_future_cannot_leak(changes):
    model = stack(causal=True, **changes)
    x = torch.randn(1, 8, 32, requires_grad=True)
    out = model(x, Layout.full(1, 8))
    away = torch.randn(32)  # the sum of normalised features would have no gradient
    for t in range(8):
        (grad,) = torch.autograd.grad(out[0, t] @ away, x, retain_graph=True)
        assert not grad[0, t + 1 :].any()
        assert grad[0, : t + 1].abs().sum(-1).min() > 0
    changed = x.detach().clone()
    changed[:, 5:] += 10.0
    close(model(changed, Layout.full(1, 8))[:, :5], out[:, :5])


def test_nothing_leaks_between_packed_sequences():
    model = stack(causal=False)
    layout = packed([3, 4], width=8)
    x = torch.randn(1, 8, 32, requires_grad=True)
    out = model(x, layout)
    (grad,) = torch.autograd.grad((out[0, :3] @ torch.randn(32)).sum(), x)
    assert not grad[0, 3:].any()
    assert grad[0, :3].abs().sum(-1).min() > 0


def test_without_causal_every_position_sees_every_other():
    model = stack(causal=False)
    x = torch.randn(1, 8, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x, Layout.full(1, 8))[0, 0] @ torch.randn(32), x)
    assert grad[0].abs().sum(-1).min() > 0


@torch.no_grad()
def test_without_positions_order_is_nothing_and_with_them_it_counts():
    x, order = torch.randn(1, 6, 32), torch.tensor([3, 0, 5, 1, 4, 2])
    layout = Layout.full(1, 6)
    for positions in POSITIONS:
        model = stack(positions=positions)
        same = torch.allclose(model(x, layout)[:, order], model(x[:, order], layout), atol=1e-4)
        assert same == (positions == "none")


@pytest.mark.parametrize("depth", [2, 8, 32])
@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize("cross", [False, True])
@torch.no_grad()
def test_the_residual_stream_starts_with_variance_of_order_one(depth, activation, cross):
    model = stack(causal=True, cross=cross, depth=depth, activation=activation, dim=64)
    stream = []
    model.norm.register_forward_pre_hook(lambda _, arguments: stream.append(arguments[0]))
    x, memory = torch.randn(2, 16, 64), torch.randn(2, 16, 64)
    model(x, Layout.full(2, 16), memory, Layout.full(2, 16))
    assert 1.0 < stream[0].var().item() < 4.0


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
def test_parameters_of_the_whole_stack(cross, positions):
    """N blocks of 4 D^2 an attention and 8 D^2 the feed-forward, with biases and norms, one norm at the end."""
    d, depth, attentions = 32, 2, 1 + cross
    block = attentions * (4 * d**2 + 4 * d) + (8 * d**2 + 5 * d) + (attentions + 1) * 2 * d
    table = 32 * d if positions == "learned" else 0
    for placement, last in [("pre", 2 * d), ("post", 0)]:
        model = stack(cross=cross, positions=positions, norm_placement=placement)
        count = sum(p.numel() for p in model.parameters())
        assert count == depth * block + last + table


def test_the_papers_base_model_has_44_million_parameters_in_its_stacks():
    """6 (4 D^2 + 2 D F) of the encoder and 6 (8 D^2 + 2 D F) of the decoder, with D = 512 and F = 2048."""
    config = TransformerConfig(depth=1, norm_placement="post", activation="relu", bias=False)
    stacks = [Transformer(config), Transformer(config, causal=True, cross=True)]
    matrices = sum(p.numel() for part in stacks for p in part.parameters() if p.dim() == 2)
    assert 6 * matrices == 6 * (12 + 16) * 512**2 == 44_040_192


@torch.no_grad()
def test_the_cache_says_when_it_is_full():
    model = stack(causal=True)
    cache = model.cache(capacity=3)
    model(torch.randn(1, 3, 32), Layout.full(1, 3), cache=cache)
    with pytest.raises(ValueError, match="room for 3 tokens, not for 4"):
        model(torch.randn(1, 1, 32), Layout.full(1, 1, start=3), cache=cache)


@torch.no_grad()
def test_half_precision_stays_half():
    model = stack(causal=True, positions="rotary").bfloat16()
    assert model(torch.randn(1, 4, 32).bfloat16(), Layout.full(1, 4)).dtype == torch.bfloat16
