"""Sequence to sequence: a translation depends on its own source and on earlier target tokens, and on nothing else."""

import pytest
import torch
from torch import Tensor

from tfzoo.backbone import TransformerConfig, units
from tfzoo.layout import Layout
from tfzoo.models import Beam, Greedy, Hypothesis, Limits, Seq2Seq, decode

SOURCE, V, BEGIN, END = 13, 6, 1, 0
VARIANTS = [
    pytest.param({"positions": p, "norm_placement": n, "kv_heads": k}, id=f"{p}-{n}-{k}")
    for p, n, k in [("sinusoidal", "post", 4), ("learned", "pre", 2), ("rotary", "pre", 1), ("none", "post", 2)]
] + [pytest.param({"network": n}, id=n) for n in ("rnn", "rnn-attention", "lstm", "lstm-attention")]  # fmt: skip


def model(tie: str = "none", **changes) -> Seq2Seq:
    torch.manual_seed(0)
    base = {"dim": 32, "depth": 2, "heads": 4, "max_length": 24, "dropout": 0.0}
    made = Seq2Seq(TransformerConfig(**(base | changes)), SOURCE, V, tie=tie).eval()
    with torch.no_grad():  # away from the start, where the last token decides nearly alone
        for unit in units(made.decoder):
            for name, parameter in unit.named_parameters():
                parameter.mul_(1 if "norm" in name else 3)
        made.output.weight.mul_(2)
    return made


def sources(*lengths: int) -> tuple[Tensor, Layout, list[Tensor]]:
    """A padded batch of sources, and each alone."""
    torch.manual_seed(3)
    alone = [torch.randint(SOURCE, (length,)) for length in lengths]
    tokens = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True, padding_value=5)
    return tokens, Layout.padded(torch.tensor(lengths), tokens.shape[1]), alone


def begin(rows: int) -> Tensor:
    return torch.full((rows, 1), BEGIN)


class Naive:
    """Steps that encode and decode everything anew for every token."""

    def __init__(self, net: Seq2Seq, source: Tensor, layout: Layout) -> None:
        self.net, self.source, self.layout = net, source, layout
        self.target: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        self.target = tokens if self.target is None else torch.cat([self.target, tokens], dim=1)
        target_layout = Layout.full(*self.target.shape)
        return self.net(self.source, self.layout, self.target, target_layout)[:, -1]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        self.source, self.layout = self.source[rows], self.layout.select(rows)
        assert self.target is not None
        self.target = self.target[rows]


def same(got: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert [h.tokens for h in one] == [h.tokens for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-3)


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("strategy", [Greedy(), Beam(1), Beam(4), Beam(3, 0.0)], ids=repr)
def test_decoding_with_caches_equals_naive_recomputation_and_each_alone(changes, strategy):
    net = model(**changes)
    source, layout, alone = sources(7, 2, 5, 1, 4)
    limits = Limits(END, 9)
    got = decode(net.steps(source, layout, capacity=9), begin(5), strategy, limits)
    same(got, decode(Naive(net, source, layout), begin(5), strategy, limits))
    for hypotheses, one in zip(got, alone, strict=True):
        steps = net.steps(one[None], Layout.full(1, len(one)), capacity=9)
        same([hypotheses], decode(steps, begin(1), strategy, limits))


def test_translations_above_differ_and_end_at_different_times():
    """Otherwise it would not show that rows may leave, and that each reads its own source."""
    found = set()
    for variant in VARIANTS:
        source, layout, _ = sources(7, 2, 5, 1, 4)
        steps = Naive(model(**variant.values[0]), source, layout)
        found |= {tuple(h.tokens) for [h] in decode(steps, begin(5), Greedy(), Limits(END, 9))}
    assert len(found) > 4
    assert len({len(tokens) for tokens in found}) > 2


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_padded_and_packed_equal_alone(changes):
    net = model(**changes)
    source, source_layout, alone = sources(5, 2)
    targets = [torch.randint(V, (3,)), torch.randint(V, (4,))]
    expected = [
        net(s[None], Layout.full(1, len(s)), t[None], Layout.full(1, len(t)))[0]
        for s, t in zip(alone, targets, strict=True)
    ]
    target = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
    target_layout = Layout.padded(torch.tensor([3, 4]), 4)
    logits = net(source, source_layout, target, target_layout)
    torch.testing.assert_close(
        logits[target_layout.segments > 0], torch.cat(expected), atol=2e-5, rtol=1e-4
    )

    one = lambda *lengths: Layout(  # noqa: E731
        torch.cat([torch.arange(n) for n in lengths])[None],
        torch.cat([torch.full((n,), i) for i, n in enumerate(lengths, start=1)])[None],
    )
    packed = net(torch.cat(alone)[None], one(5, 2), torch.cat(targets)[None], one(3, 4))
    torch.testing.assert_close(packed[0], torch.cat(expected), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_the_future_cannot_leak_and_the_source_does_reach(changes):
    net = model(**changes)
    source, layout, _ = sources(6)
    target = torch.randint(V, (1, 7))
    logits = net(source, layout, target, Layout.full(1, 7))
    changed = target.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % V
    after = net(source, layout, changed, Layout.full(1, 7))
    torch.testing.assert_close(after[:, :4], logits[:, :4], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(after[:, 4:], logits[:, 4:], atol=1e-3)
    other = source.clone()
    other[:, -1] = (other[:, -1] + 1) % SOURCE
    reached = net(other, layout, target, Layout.full(1, 7))
    assert (reached - logits).abs().amax(-1).min() > 1e-4


def test_gradients_of_a_padded_batch_are_finite():
    """A padded target position finds no padding in a full source, and so nothing that it may see."""
    net = model().train()
    logits = net(
        torch.randint(SOURCE, (2, 5)),
        Layout.full(2, 5),
        torch.randint(V, (2, 4)),
        Layout.padded(torch.tensor([4, 1]), 4),
    )
    assert logits.isfinite().all()
    logits[1, 0].sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("tie", ["none", "output", "all"])
def test_tying_shares_storage(tie):
    net = Seq2Seq(TransformerConfig(dim=32, depth=2, heads=4), V, V, tie=tie)
    source, target, output = (
        e.weight.data_ptr() for e in (net.source_embedding, net.target_embedding, net.output)
    )
    assert (target == output) == (tie in ("output", "all"))
    assert (source == target) == (tie == "all")
    tables = {"none": 3, "output": 2, "all": 1}[tie] * V * 32
    stacks = sum(p.numel() for part in (net.encoder, net.decoder) for p in part.parameters())
    assert sum(p.numel() for p in net.parameters()) == stacks + tables


def test_tying_all_needs_one_vocabulary():
    with pytest.raises(
        ValueError, match="tie: all needs one vocabulary, not 13 source and 6 target"
    ):
        model(tie="all")


def test_a_translation_that_cannot_fit_is_named():
    source, layout, _ = sources(3)
    model().steps(source, layout, capacity=24)
    with pytest.raises(ValueError, match="up to 25 tokens do not fit the model's 24 positions"):
        model().steps(source, layout, capacity=25)
