"""The laws of the stack, for recurrent networks: those of the Transformer, and what a state may carry."""

from __future__ import annotations

import pytest
import torch
from packed_rows import close, packed, sequences
from torch import nn

from tfzoo.backbone import Recurrent, Transformer, TransformerConfig, capture, stack_for
from tfzoo.layout import Layout

NETWORKS = ["rnn", "lstm"]
READERS = ["rnn", "rnn-attention", "lstm", "lstm-attention"]


def stack(network: str, causal: bool = False, cross: bool = False, **changes) -> Recurrent:
    torch.manual_seed(0)
    base = {"dim": 32, "depth": 2, "heads": 4, "max_length": 32, "dropout": 0.0, "network": network}
    made = stack_for(TransformerConfig(**(base | changes)), causal=causal, cross=cross)
    assert isinstance(made, Recurrent)
    return made.eval()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("told", [False, True])
@torch.no_grad()
def test_packed_equals_separate(network, causal, told):
    """Whether or not the layout says how many sequences it has, and how long they are."""
    model = stack(network, causal)
    layout = packed([3, 4, 1], [2, 5], [8], [], width=8)
    if told:
        layout = Layout(layout.positions, layout.segments, sequences=(7, 9))
    x = torch.randn(4, 8, 32)
    out = model(x, layout)
    assert len(sequences(layout)) == 6
    for row, place in sequences(layout):
        alone = x[row : row + 1, place]
        close(out[row : row + 1, place], model(alone, Layout.full(1, alone.shape[1])))


@pytest.mark.parametrize("network", READERS)
@torch.no_grad()
def test_packed_pairs_equal_separate(network):
    """Target and source sequences of a pair share a row and a segment number, not their places."""
    model = stack(network, causal=True, cross=True)
    layout, memory_layout = packed([3, 4], [1, 2, 3], width=8), packed([5, 1], [2, 2, 4], width=9)
    x, memory = torch.randn(2, 8, 32), torch.randn(2, 9, 32)
    out = model(x, layout, memory, memory_layout)
    pairs = list(zip(sequences(layout), sequences(memory_layout), strict=True))
    assert len(pairs) == 5
    for (row, place), (_, read) in pairs:
        one, other = x[row : row + 1, place], memory[row : row + 1, read]
        layouts = [Layout.full(1, part.shape[1]) for part in (one, other)]
        close(out[row : row + 1, place], model(one, layouts[0], other, layouts[1]))


@pytest.mark.parametrize("network", READERS)
@torch.no_grad()
def test_padded_equals_alone(network):
    encoder = stack(network.removesuffix("-attention"))
    model = stack(network, causal=True, cross=True)
    layout = Layout.padded(torch.tensor([7, 3, 1]), 7)
    source_layout = Layout.padded(torch.tensor([2, 5, 4]), 5)
    x, source = torch.randn(3, 7, 32), torch.randn(3, 5, 32)
    out = model(x, layout, encoder(source, source_layout), source_layout)
    for row, (length, read) in enumerate([(7, 2), (3, 5), (1, 4)]):
        memory = encoder(source[row : row + 1, :read], Layout.full(1, read))
        alone = x[row : row + 1, :length]
        expected = model(alone, Layout.full(1, length), memory, Layout.full(1, read))
        close(out[row : row + 1, :length], expected)


@pytest.mark.parametrize("network", READERS)
@pytest.mark.parametrize("chunks", [[9], [4, 1, 1, 1, 1, 1], [1] * 9, [2, 5, 2]], ids=str)
@torch.no_grad()
def test_cached_equals_full(network, chunks):
    model = stack(network, causal=True, cross=True)
    x, memory = torch.randn(2, 9, 32), torch.randn(2, 6, 32)
    read = Layout.padded(torch.tensor([6, 3]), 6)
    expected = model(x, Layout.full(2, 9), memory, read)
    cache, start, parts = model.cache(capacity=9), 0, []
    for chunk in chunks:
        new = x[:, start : start + chunk]
        parts.append(model(new, Layout.full(2, chunk, start=start), memory, read, cache))
        memory = torch.full_like(memory, torch.nan)  # it is read in the first call alone
        start += chunk
    close(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
@torch.no_grad()
def test_cached_after_padded_prompts_equals_each_alone(network, left):
    model = stack(network, causal=True)
    lengths = [5, 2, 1]
    x, new = torch.randn(3, 5, 32), torch.randn(3, 4, 32)
    prompt = Layout.padded(torch.tensor(lengths), 5)
    if left:
        prompt = Layout(prompt.positions, prompt.segments.flip(1))
    cache = model.cache(capacity=9)
    model(x, prompt, cache=cache)
    steps = []
    for step in range(4):
        position = torch.tensor(lengths)[:, None] + step
        layout = Layout(position, torch.ones_like(position))
        steps.append(model(new[:, step : step + 1], layout, cache=cache))
    for row, length in enumerate(lengths):
        real = prompt.segments[row] > 0
        alone = torch.cat([x[row : row + 1, real], new[row : row + 1]], dim=1)
        expected = model(alone, Layout.full(1, length + 4))[:, length:]
        close(torch.cat(steps, dim=1)[row : row + 1], expected)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("width", [1, 3])
@torch.no_grad()
def test_a_row_without_a_new_token_keeps_its_state(network, width):
    model = stack(network, causal=True)
    x = torch.randn(2, 4, 32)
    cache = model.cache(capacity=9)
    model(x, Layout.full(2, 4), cache=cache)
    lengths = torch.tensor([width, 0])
    model(torch.randn(2, width, 32), Layout.padded(lengths, width), cache=cache)
    last = torch.randn(2, 1, 32)
    got = model(last, Layout.full(2, 1, start=4), cache=cache)
    whole = torch.cat([x[1:], last[1:]], dim=1)
    close(got[1:], model(whole, Layout.full(1, 5))[:, 4:])


@pytest.mark.parametrize("network", READERS)
@pytest.mark.parametrize("chunk", [1, 3])
@torch.no_grad()
def test_reordered_rows_go_on_as_if_they_had_been_there_all_along(network, chunk):
    model = stack(network, causal=True, cross=True)
    x, memory = torch.randn(2, 4, 32), torch.randn(2, 6, 32)
    read = Layout.padded(torch.tensor([6, 3]), 6)
    cache = model.cache(capacity=4 + chunk)
    model(x, Layout.full(2, 4), memory, read, cache)
    rows = torch.tensor([1, 1, 0, 1])
    assert cache.reorder(rows).tolist() == [1, 1, 0, 1]
    new = torch.randn(4, chunk, 32)
    got = model(new, Layout.full(4, chunk, start=4), memory, read.select(rows), cache)
    whole = torch.cat([x[rows], new], dim=1)
    expected = model(whole, Layout.full(4, 4 + chunk), memory[rows], read.select(rows))
    close(got, expected[:, 4:])
    # In pairs that share a memory: which of them stay is said, and they are asked together.
    model(x, Layout.full(2, 4), memory, read, cache := model.cache(capacity=4 + chunk))
    rows = torch.tensor([1, 1, 0, 0])
    memories = cache.reorder(rows, beams=2)
    assert memories.tolist() == [1, 0]
    got = model(new, Layout.full(4, chunk, start=4), memory, read.select(memories), cache)
    whole = torch.cat([x[rows], new], dim=1)
    expected = model(whole, Layout.full(4, 4 + chunk), memory[rows], read.select(rows))
    close(got, expected[:, 4:])


@pytest.mark.parametrize("network", NETWORKS)
def test_the_future_cannot_leak_and_the_past_is_known(network):
    model = stack(network, causal=True)
    x = torch.randn(1, 8, 32, requires_grad=True)
    out = model(x, Layout.full(1, 8))
    for t in range(8):
        (grad,) = torch.autograd.grad(out[0, t].sum(), x, retain_graph=True)
        assert not grad[0, t + 1 :].any()
        assert grad[0, : t + 1].abs().sum(-1).min() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_an_encoder_knows_both_sides_and_neither_its_neighbour_nor_padding(network):
    model = stack(network)
    x = torch.randn(1, 9, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x, packed([3, 4], width=9))[0, 4].sum(), x)
    assert not grad[0, :3].any()
    assert not grad[0, 7:].any()
    assert grad[0, 3:7].abs().sum(-1).min() > 0


@pytest.mark.parametrize("network", READERS)
def test_gradients_are_finite_and_padding_takes_none(network):
    """Also where a row is empty, and where a sequence has no source."""
    model = stack(network, causal=True, cross=True)
    layout = Layout.padded(torch.tensor([5, 2, 0]), 5)
    memory_layout = Layout.padded(torch.tensor([4, 0, 3]), 4)
    x = torch.randn(3, 5, 32, requires_grad=True)
    memory = torch.randn(3, 4, 32, requires_grad=True)
    out = model(x, layout, memory, memory_layout)
    assert out.isfinite().all()
    (out[layout.segments > 0] @ torch.randn(32)).sum().backward()
    assert not x.grad[layout.segments == 0].any()
    assert not memory.grad[1:].any()
    assert memory.grad[0].any()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("network", READERS)
def test_what_a_decoder_knows_of_its_source(network):
    """One vector, the last state forward and the first one backward; with attention, everything."""
    model = stack(network, causal=True, cross=True)
    memory = torch.randn(1, 6, 32, requires_grad=True)
    layout = Layout.padded(torch.tensor([5]), 6)
    out = model(torch.randn(1, 3, 32), Layout.full(1, 3), memory, layout)
    (grad,) = torch.autograd.grad(out[0, 2].sum(), memory)
    known = torch.zeros(6, 32, dtype=torch.bool)
    known[:5] = network.endswith("-attention")
    known[4, :16] = known[0, 16:] = True
    assert ((grad[0] != 0) == known).all()


@pytest.mark.parametrize("network", READERS)
@torch.no_grad()
def test_a_look_at_the_source_can_be_captured(network):
    model = stack(network, causal=True, cross=True)
    x, memory = torch.randn(2, 4, 32), torch.randn(2, 6, 32)
    read = Layout.padded(torch.tensor([6, 3]), 6)
    expected = model(x, Layout.full(2, 4), memory, read)
    with capture(model) as weights:
        close(model(x, Layout.full(2, 4), memory, read), expected)
    assert set(weights) == (
        {"cross_attention.sublayer"} if network.endswith("attention") else set()
    )
    for seen in weights.values():
        assert seen.shape == (2, 4, 4, 6)
        close(seen[1, :, :, :3].sum(-1), torch.ones(4, 4))


@pytest.mark.parametrize(("network", "gates"), [("rnn", 1), ("lstm", 4)])
def test_parameters(network, gates):
    """A gate: two matrices and two biases. A decoder begins from D numbers; attention is a sublayer of the Transformer."""
    d, depth = 32, 2
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    one_way = depth * gates * (2 * d**2 + 2 * d)
    both = depth * 2 * gates * (d * d // 2 + d * d // 4 + d)
    parts = {"rnn": 1, "lstm": 2}[network]
    begin = depth * parts * (d**2 + d)
    attention = 4 * d**2 + 4 * d + 2 * d
    assert count(stack(network)) == both
    assert count(stack(network, causal=True)) == one_way
    assert count(stack(network, causal=True, cross=True)) == one_way + begin
    assert (
        count(stack(f"{network}-attention", causal=True, cross=True)) == one_way + begin + attention
    )


@torch.no_grad()
def test_it_starts_with_open_forget_gates_and_orthogonal_recurrences():
    model = stack("lstm", causal=True)
    for layer in model.layers:
        for gate in layer.ahead.weight_hh_l0.split(32):
            close(gate @ gate.T, torch.eye(32))
        biases = (layer.ahead.bias_ih_l0 + layer.ahead.bias_hh_l0).split(32)
        assert [b.unique().tolist() for b in biases] == [[0.0], [1.0], [0.0], [0.0]]
        assert layer.ahead.weight_ih_l0.std() == pytest.approx(32**-0.5, rel=0.1)


def test_dropout_is_on_what_goes_in_and_on_every_layer_and_never_inside():
    model = stack("lstm", causal=True, dropout=0.5).train()
    seen = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0], out[0])))
    out = model(torch.randn(8, 16, 32), Layout.full(8, 16))
    for x in (seen[0][0], seen[0][1], out):
        assert (x == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert all(layer.ahead.dropout == 0 for layer in model.layers)


@torch.no_grad()
def test_half_precision_stays_half():
    model = stack("lstm", causal=True).bfloat16()
    assert model(torch.randn(1, 4, 32).bfloat16(), Layout.full(1, 4)).dtype == torch.bfloat16


@pytest.mark.parametrize("network", READERS)
def test_mixed_precision_on_a_cpu(network):
    model = stack(network, causal=True, cross=True)
    x, memory, read = torch.randn(2, 4, 32), torch.randn(2, 6, 32), Layout.full(2, 6)
    expected = model(x, Layout.full(2, 4), memory, read).detach()
    with torch.autocast("cpu", torch.bfloat16):
        model(x.bfloat16(), Layout.full(2, 4), memory.bfloat16(), read).sum().backward()
        cache = model.cache(4)
        with torch.no_grad():
            parts = [
                model(x[:, t : t + 1].bfloat16(), Layout.full(2, 1, start=t), memory, read, cache)
                for t in range(4)
            ]
    torch.testing.assert_close(torch.cat(parts, dim=1).float(), expected, atol=0.05, rtol=0.05)


def test_attention_without_a_source_is_refused():
    with pytest.raises(ValueError, match=r"task has none: set backbone\.network to lstm"):
        stack("lstm-attention", causal=True)


def test_the_network_is_one_setting():
    assert isinstance(stack_for(TransformerConfig(dim=32, depth=1)), Transformer)
    kinds = {"rnn": nn.RNN, "lstm": nn.LSTM}
    for network, kind in kinds.items():
        assert type(stack(network).layers[0].ahead) is kind
