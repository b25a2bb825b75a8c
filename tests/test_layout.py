"""Laws of the layout: its lowering says the same as the one rule, and picks the cheapest form that does."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfzoo.layout import Layout, Mask, lower, visible

small = st.integers(1, 6)
patient = settings(deadline=None)


@st.composite
def layouts(draw, batch: int) -> Layout:
    """Any layout of `batch` rows: full, padded or packed."""
    kind = draw(st.sampled_from(["full", "padded", "packed"]))
    length = draw(small)
    if kind == "full":
        return Layout.full(batch, length, start=draw(st.integers(0, 3)))
    if kind == "padded":
        lengths = draw(st.lists(st.integers(0, length), min_size=batch, max_size=batch))
        return Layout.padded(torch.tensor(lengths), length)
    rows = [packed_row(draw(st.lists(small, min_size=1, max_size=3)), 20) for _ in range(batch)]
    positions, segments = (torch.tensor(part) for part in zip(*rows, strict=True))
    return Layout(positions, segments)


def packed_row(lengths: list[int], width: int) -> tuple[list[int], list[int]]:
    """Positions and segments of sequences side by side, padded to `width`."""
    positions = [p for n in lengths for p in range(n)]
    segments = [s for s, n in enumerate(lengths, start=1) for _ in range(n)]
    padding = [0] * (width - len(positions))
    return positions + padding, segments + padding


@st.composite
def pairs(draw) -> tuple[Layout, Layout]:
    batch = draw(st.integers(1, 3))
    return draw(layouts(batch)), draw(layouts(batch))


def table(mask: Mask, query: Layout, key: Layout) -> torch.Tensor:
    """What a kernel would let be seen under `mask`, (B, T, S)."""
    shape = (*query.shape, key.shape[1])
    if mask.visible is not None:
        return mask.visible[:, 0].expand(shape)
    seen = torch.ones(shape, dtype=torch.bool)
    return seen.tril() if mask.is_causal else seen


@patient
@given(pairs(), st.booleans())
def test_lowering_says_what_the_rule_says(pair, causal):
    query, key = pair
    assert table(lower(query, key, causal), query, key).equal(visible(query, key, causal))


@patient
@given(layouts(2), st.booleans())
def test_lowering_a_layout_onto_itself(layout, causal):
    assert table(lower(layout, layout, causal), layout, layout).equal(
        visible(layout, layout, causal)
    )


@patient
@given(st.integers(1, 3), st.integers(0, 4), st.lists(small, min_size=1, max_size=5))
def test_lowering_of_chunks_after_a_cache(batch, start, chunks):
    seen = None
    for chunk in chunks:
        new = Layout.full(batch, chunk, start=start)
        seen = new if seen is None else seen.extend(new)
        start += chunk
        assert seen.dense
        assert table(lower(new, seen, True), new, seen).equal(visible(new, seen, True))


@patient
@given(pairs(), st.booleans())
def test_the_rule_token_by_token(pair, causal):
    query, key = pair
    seen = visible(query, key, causal)
    for b, t, s in torch.cartesian_prod(*(torch.arange(n) for n in seen.shape)).tolist():
        same = query.segments[b, t] == key.segments[b, s]
        earlier = key.positions[b, s] <= query.positions[b, t]
        assert seen[b, t, s] == bool(same and (earlier or not causal))


@patient
@given(layouts(2))
def test_dense_is_only_claimed_where_it_is_true(layout):
    if layout.dense:
        assert (layout.segments == 1).all()
        expected = torch.arange(layout.start, layout.start + layout.shape[1])
        assert layout.positions.equal(expected.expand(layout.shape))


def forbidden(*_):
    raise AssertionError("a tensor was read")


class TestChoice:
    """Which form is picked, from facts that the host knows."""

    full = Layout.full(2, 5)

    def test_nothing_where_all_is_visible(self):
        assert lower(self.full, Layout.full(2, 7), causal=False) == Mask()

    def test_is_causal_where_a_whole_sequence_looks_at_itself(self):
        assert lower(self.full, Layout.full(2, 5), causal=True) == Mask(is_causal=True)

    def test_nothing_for_the_newest_token_of_a_cache(self):
        new = Layout.full(2, 1, start=5)
        assert lower(new, self.full.extend(new), causal=True) == Mask()

    def test_a_table_for_a_chunk_after_a_cache(self):
        new = Layout.full(2, 2, start=5)
        assert lower(new, self.full.extend(new), causal=True).visible.shape == (2, 1, 2, 7)

    def test_a_table_for_padding(self):
        padded = Layout.padded(torch.tensor([3, 5]), 5)
        assert lower(padded, padded, causal=False).visible.shape == (2, 1, 5, 5)
        assert lower(self.full, padded, causal=False).visible.shape == (2, 1, 5, 5)

    def test_no_table_for_padding_that_is_none(self):
        padded = Layout.padded(torch.tensor([5, 5]), 5)
        assert padded.dense
        assert lower(padded, padded, causal=True) == Mask(is_causal=True)

    def test_the_choice_reads_nothing_from_the_device(self, monkeypatch):
        padded = Layout.padded(torch.tensor([3, 5]), 5)
        for reader in ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__"):
            monkeypatch.setattr(torch.Tensor, reader, forbidden)
        lower(padded, padded, causal=True)
        lower(self.full, self.full, causal=True)
        with pytest.raises(AssertionError):
            bool((padded.segments > 0).all())


def test_extend_is_dense_only_where_positions_go_on():
    first = Layout.full(1, 3)
    assert first.extend(Layout.full(1, 2, start=3)).dense
    assert not first.extend(Layout.full(1, 2)).dense
    assert not first.extend(Layout.padded(torch.tensor([1]), 2)).dense


def test_select_and_to_keep_every_field():
    layout = Layout.full(3, 4, start=2)
    chosen = layout.select(torch.tensor([2, 0]))
    assert (chosen.shape, chosen.dense, chosen.start) == ((2, 4), True, 2)
    moved = layout.to("cpu")
    assert (moved.dense, moved.start) == (True, 2)
    packed = Layout(torch.tensor([[0, 1], [0, 0]]), torch.tensor([[1, 1], [1, 2]]))
    assert packed.select(torch.tensor([1])).segments.tolist() == [[1, 2]]


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"one shape \(B, T\), not \(1, 2\) and \(1, 3\)"):
        Layout(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"\(2,\) and \(2,\)"):
        Layout(torch.zeros(2), torch.zeros(2))


def modules_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_tfzoo_loads_no_torch():
    assert "torch" not in modules_after("import tfzoo")


def test_the_floors_of_pure_torch_load_nothing_else():
    loaded = modules_after("import tfzoo.backbone, tfzoo.models, tfzoo.layout")
    assert "torch" in loaded
    assert not loaded & {"lightning", "wandb", "datasets", "timm", "torchvision", "torchmetrics"}
