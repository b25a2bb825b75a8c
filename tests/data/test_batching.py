"""Laws of laying sequences into rows, and of batches that move."""

from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_utilities.core.apply_func import apply_to_collection

from tfzoo.data.batching import LanguageBatch, TextBatch, lay, starts
from tfzoo.data.budget import PackingSampler, TokenBudgetSampler
from tfzoo.layout import Layout

SEQUENCES = st.lists(st.integers(1, 99), min_size=1, max_size=9)
ROWS = st.lists(st.lists(SEQUENCES, min_size=1, max_size=4), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_every_sequence_is_a_segment_of_its_row(rows):
    tokens, layout = lay(rows, fill=0)
    for row, sequences in enumerate(rows):
        for segment, sequence in enumerate(sequences, start=1):
            here = layout.segments[row] == segment
            assert tokens[row][here].tolist() == sequence
            assert layout.positions[row][here].tolist() == list(range(len(sequence)))
    assert (tokens[layout.segments == 0] == 0).all()
    assert tokens.shape[1] == max(sum(map(len, row)) for row in rows)
    one_whole = {len(row[0]) for row in rows} == {tokens.shape[1]}
    assert layout.dense == (one_whole and all(len(row) == 1 for row in rows))


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_starts_points_at_every_first_token(rows):
    tokens, _ = lay(rows, fill=0)
    first = tokens.flatten()[starts(rows, tokens.shape[1])]
    assert first.tolist() == [sequence[0] for row in rows for sequence in row]


def batch() -> TextBatch:
    tokens, layout = lay([[[1, 2]], [[3, 4]]], 0)
    return TextBatch(
        tokens, layout, torch.tensor([0, 2]), labels=torch.tensor([0, 1]), text=["a", "b"]
    )


def test_a_batch_moves_with_its_layout():
    moved = batch().to("meta")
    assert moved.tokens.device.type == moved.layout.positions.device.type == "meta"
    assert moved.layout.dense
    assert moved.text == ["a", "b"]


def test_a_batch_is_pinned_whatever_its_memory_looks_like(monkeypatch):
    """Pinning copies into memory of the same strides, which fails where elements share theirs, as expanded ones do."""

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    for layout in (Layout.full(2, 3), Layout.padded(torch.tensor([2, 3]), 3), batch().layout):
        tokens = torch.zeros(layout.shape, dtype=torch.long)
        copied = LanguageBatch(tokens, layout, tokens).pin_memory().layout
        assert torch.equal(copied.positions, layout.positions)
        assert torch.equal(copied.segments, layout.segments)
        assert (copied.dense, copied.sequences) == (layout.dense, layout.sequences)


def test_a_batch_is_frozen_and_complete():
    with pytest.raises(AttributeError, match="frozen"):
        batch().text = []
    with pytest.raises(TypeError, match="tokens, layout, labels"):
        LanguageBatch(torch.zeros(1, 1), Layout.full(1, 1))


def test_lightnings_half_and_fsdp_precisions_leave_a_batch_whole():
    given = batch()
    assert apply_to_collection(given, torch.Tensor, torch.Tensor.half) is given


def test_arrays_and_lists_are_laid_alike():
    lists, _ = lay([[[1, 2]]], 0)
    arrays, _ = lay([[np.array([1, 2], np.uint16)]], 0)
    assert torch.equal(lists, arrays)
    assert arrays.dtype == torch.long


@settings(deadline=None, max_examples=60)
@given(sequences=st.lists(SEQUENCES, min_size=1, max_size=12), packed=st.booleans())
def test_packed_or_not_a_batch_holds_the_same_sequences(sequences, packed):
    """What a plan packs and `lay` lays comes back, sequence by sequence, through the layout alone."""
    lengths = [len(sequence) for sequence in sequences]
    sampler = PackingSampler(lengths, 40, 20) if packed else TokenBudgetSampler(lengths, 40)
    found: dict[int, list[int]] = {}
    for draws in sampler:
        together = [list(row) for _, row in groupby(draws, key=lambda draw: draw.row)]
        rows = [[sequences[draw.sample] for draw in row] for row in together]
        tokens, layout = lay(rows, fill=0)
        assert tokens.numel() <= 40
        first = starts(rows, tokens.shape[1]).tolist()
        for row, (line, parts) in enumerate(zip(tokens, layout.segments, strict=True)):
            for segment, draw in enumerate(together[row], start=1):
                found[draw.sample] = line[parts == segment].tolist()
                at = row * tokens.shape[1] + int((parts == segment).nonzero()[0, 0])
                assert first.pop(0) == at
        assert not first
    assert [found[place] for place in range(len(sequences))] == sequences
