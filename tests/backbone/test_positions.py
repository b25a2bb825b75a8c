"""What positions promise: sinusoidal ones shift linearly, rotary ones see only distances."""

import math

import pytest
import torch

from tfzoo.backbone import (
    LearnedPositions,
    Positions,
    RotaryPositions,
    SinusoidalPositions,
    TransformerConfig,
)
from tfzoo.backbone.positions import positions_for
from tfzoo.layout import Layout

PACKED = Layout(torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 0]]), torch.tensor([[1, 1, 1, 2, 2], [1, 2, 2, 2, 0]]))  # fmt: skip


def test_sinusoidal_is_the_papers_formula():
    table = SinusoidalPositions(50, 32).table
    for position in (0, 1, 7, 49):
        for i in range(16):
            angle = position / 10000 ** (2 * i / 32)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_sinusoidal_shift_is_a_linear_map(k):
    """PE(pos + k) = M_k PE(pos) with one block-diagonal M_k of plane rotations, whatever pos."""
    table = SinusoidalPositions(60, 32).table.double()
    angle = k / 10000 ** (torch.arange(0, 32, 2).double() / 32)
    shift = torch.block_diag(
        *(torch.stack([torch.stack([c, s]), torch.stack([-s, c])]) for c, s in zip(angle.cos(), angle.sin(), strict=True))
    )  # fmt: skip
    torch.testing.assert_close(table[:-k] @ shift.T, table[k:], atol=1e-5, rtol=0)


def test_learned_positions_are_as_large_as_sinusoidal_ones():
    sinusoidal = SinusoidalPositions(512, 64).table.square().mean()
    learned = LearnedPositions(512, 64).table.square().mean()
    assert learned.item() == pytest.approx(sinusoidal.item(), rel=0.1)


@pytest.mark.parametrize("width", [2, 8, 16])
def test_rotary_scores_depend_only_on_distance(width):
    rotary = RotaryPositions(64, width, base=10000.0)
    query, key = torch.randn(2, 1, 1, 1, width).expand(2, 1, 1, 64, width)
    rotation = rotary.rotation(Layout.full(1, 64))
    scores = (rotation.turn(query) @ rotation.turn(key).transpose(-2, -1))[0, 0]
    for distance in (-40, -3, 0, 3, 40):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.diagonal(), (query * key).sum(-1)[0, 0], atol=1e-4, rtol=0)


def test_rotary_is_the_papers_formula():
    """Feature pairs are complex numbers, multiplied by exp(i pos base^(-2j / E))."""
    x = torch.randn(1, 2, 10, 8)
    turned = RotaryPositions(10, 8, base=100.0).rotation(Layout.full(1, 10)).turn(x)
    frequency = 100.0 ** (-torch.arange(4) / 4)
    angle = torch.arange(10)[:, None] * frequency
    expected = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(turned, torch.cat([expected.real, expected.imag], -1))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_rotary_keeps_the_type_and_computes_in_float32():
    rotation = RotaryPositions(512, 8, base=10000.0).rotation(Layout.full(1, 512))
    x = torch.randn(1, 1, 512, 8).bfloat16()
    turned = rotation.turn(x)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, rotation.turn(x.float()).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [SinusoidalPositions, LearnedPositions])
def test_a_packed_token_gets_the_vector_of_its_place_in_its_sequence(kind):
    positions = kind(8, 32)
    added = positions.added(PACKED)
    assert added.shape == (2, 5, 32)
    torch.testing.assert_close(added, positions.table[PACKED.positions])


@pytest.mark.parametrize("kind", [SinusoidalPositions, LearnedPositions])
def test_a_dense_layout_starts_where_it_says(kind):
    positions = kind(8, 32)
    torch.testing.assert_close(
        positions.added(Layout.full(3, 2, start=4)), positions.table[None, 4:6]
    )


@pytest.mark.parametrize(
    "read",
    [
        SinusoidalPositions(8, 32).added,
        LearnedPositions(8, 32).added,
        RotaryPositions(8, 32, 10000.0).rotation,
    ],
)
def test_a_sequence_that_is_too_long_is_named(read):
    read(Layout.full(1, 8))
    with pytest.raises(
        ValueError, match="a sequence of 9 tokens does not fit the model's 8 positions"
    ):
        read(Layout.full(1, 9))
    with pytest.raises(
        ValueError, match="a sequence of 9 tokens does not fit the model's 8 positions"
    ):
        read(Layout.full(1, 1, start=8))


@pytest.mark.parametrize(
    ("kind", "expected", "adds", "turns"),
    [
        ("sinusoidal", SinusoidalPositions, True, False),
        ("learned", LearnedPositions, True, False),
        ("rotary", RotaryPositions, False, True),
        ("none", Positions, False, False),
    ],
)
def test_a_configuration_names_its_positions(kind, expected, adds, turns):
    positions = positions_for(TransformerConfig(dim=32, heads=4, positions=kind))
    assert type(positions) is expected
    layout = Layout.full(2, 3)
    assert (positions.added(layout) is not None, positions.rotation(layout) is not None) == (
        adds,
        turns,
    )


def test_tables_that_can_be_computed_are_not_saved():
    for kind in ("sinusoidal", "rotary"):
        assert not positions_for(TransformerConfig(dim=32, heads=4, positions=kind)).state_dict()
