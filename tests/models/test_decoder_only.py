"""Translation by a decoder alone obeys the laws of `Seq2Seq`: own source, earlier target, nothing else; cached or not."""

import pytest
import torch
from torch import Tensor

from tfzoo.backbone import TransformerConfig
from tfzoo.layout import Layout
from tfzoo.models import Beam, Greedy, Limits, decode
from tfzoo.models.decoder_only import DecoderOnly

SOURCE, V, BEGIN, END = 13, 6, 1, 0
POSITIONS = ["sinusoidal", "learned", "rotary", "none"]


def model(positions: str = "learned") -> DecoderOnly:
    torch.manual_seed(0)
    config = TransformerConfig(
        dim=32, depth=2, heads=4, max_length=24, dropout=0.0, positions=positions
    )
    made = DecoderOnly(config, SOURCE, V, tie="none").eval()
    with torch.no_grad():  # away from the start, where the last token decides nearly alone
        for name, parameter in made.decoder.blocks.named_parameters():
            parameter.mul_(1 if "norm" in name else 3)
        made.output.weight.mul_(2)
    return made


def padded(vocabulary: int, *lengths: int) -> tuple[Tensor, Layout, list[Tensor]]:
    torch.manual_seed(3)
    alone = [torch.randint(vocabulary, (length,)) for length in lengths]
    tokens = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True, padding_value=5)
    return tokens, Layout.padded(torch.tensor(lengths), tokens.shape[1]), alone


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_padded_equals_alone(positions):
    net = model(positions)
    source, source_layout, sources = padded(SOURCE, 7, 2, 5)
    target, target_layout, targets = padded(V, 3, 6, 4)
    got = net(source, source_layout, target, target_layout)
    for row, (one, other) in enumerate(zip(sources, targets, strict=True)):
        alone = net(one[None], Layout.full(1, len(one)), other[None], Layout.full(1, len(other)))
        torch.testing.assert_close(got[row, : len(other)], alone[0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_packed_pairs_read_their_own_source():
    net = model()
    _, _, sources = padded(SOURCE, 4, 3)
    _, _, targets = padded(V, 2, 5)

    def packed(parts: list[Tensor]) -> tuple[Tensor, Layout]:
        positions = torch.cat([torch.arange(len(part)) for part in parts])[None]
        segments = torch.cat([torch.full((len(p),), k) for k, p in enumerate(parts, 1)])[None]
        return torch.cat(parts)[None], Layout(positions, segments)

    (source, source_layout), (target, target_layout) = packed(sources), packed(targets)
    got = net(source, source_layout, target, target_layout)[0]
    for one, other, part in zip(sources, targets, got.split([2, 5]), strict=True):
        alone = net(one[None], Layout.full(1, len(one)), other[None], Layout.full(1, len(other)))
        torch.testing.assert_close(part, alone[0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_future_cannot_leak_and_the_source_is_read():
    net = model()
    source, target = torch.randint(SOURCE, (1, 5)), torch.randint(1, V, (1, 4))
    layouts = Layout.full(1, 5), Layout.full(1, 4)
    before = net(source, layouts[0], target, layouts[1])
    later = net(source, layouts[0], target.index_fill(1, torch.tensor([3]), 0), layouts[1])
    assert torch.equal(before[:, :3], later[:, :3])
    other = net((source + 1) % SOURCE, layouts[0], target, layouts[1])
    assert not torch.allclose(before[:, 0], other[:, 0], atol=1e-3)


class Naive:
    """Steps that read everything anew for every token."""

    def __init__(self, net: DecoderOnly, source: Tensor, layout: Layout) -> None:
        self.net, self.source, self.layout = net, source, layout
        self.target: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        self.target = tokens if self.target is None else torch.cat([self.target, tokens], dim=1)
        return self.net(self.source, self.layout, self.target, Layout.full(*self.target.shape))[
            :, -1
        ]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        assert self.target is not None
        self.source, self.layout = self.source[rows], self.layout.select(rows)
        self.target = self.target[rows]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("strategy", [Greedy(), Beam(1), Beam(4)], ids=repr)
def test_decoding_with_caches_equals_reading_anew(positions, strategy):
    net = model(positions)
    source, layout, _ = padded(SOURCE, 7, 2, 5, 1, 4)
    limits, begin = Limits(END, 9), torch.full((5, 1), BEGIN)
    got = decode(net.steps(source, layout, capacity=9), begin, strategy, limits)
    expected = decode(Naive(net, source, layout), begin, strategy, limits)
    for one, other in zip(got, expected, strict=True):
        assert [h.tokens for h in one] == [h.tokens for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-3)
    assert len({tuple(one[0].tokens) for one in got}) > 1


def test_what_does_not_fit_is_refused():
    net = model()
    with pytest.raises(
        ValueError, match="sources of 20 tokens and translations of up to 9 do not fit"
    ):
        net.steps(torch.zeros(1, 20, dtype=torch.long), Layout.full(1, 20), capacity=9)
