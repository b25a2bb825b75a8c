"""Laws of the layout: its lowering says the same as the one rule, and picks the cheapest form that does."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

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


def test_full_layouts_have_no_tensors_until_they_are_asked_for(monkeypatch):
    with monkeypatch.context() as patched:
        for maker in ("arange", "ones"):
            patched.setattr(torch, maker, forbidden)
        prompt, new = Layout.full(2, 5, "cpu"), Layout.full(2, 1, "cpu", start=5)
        keys = prompt.extend(new).select(torch.tensor([1, 0]))
        assert lower(new, keys, causal=True) == Mask()
        assert (keys.shape, keys.device.type, keys.dense) == ((2, 6), "cpu", True)
    for same in (keys, pickle.loads(pickle.dumps(keys)), copy.deepcopy(keys)):
        assert same.positions.tolist() == 2 * [[0, 1, 2, 3, 4, 5]]
        assert same.segments.tolist() == 2 * [6 * [1]]
        assert same.shape == same.positions.shape == same.segments.shape
    with torch.device("meta"):
        elsewhere = Layout.full(1, 2)
    assert elsewhere.positions.device.type == elsewhere.segments.device.type == "meta"


def test_a_layout_may_be_evaluated_first_and_learned_from_later():
    layout, table = Layout.full(1, 3), torch.nn.Embedding(5, 2)
    with torch.inference_mode():
        table(layout.positions + layout.segments)
    table(layout.positions).sum().backward()
    table(layout.segments).sum().backward()


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_compiled_function_may_read_a_full_layout(mode):
    def read(x: torch.Tensor) -> torch.Tensor:
        layout = Layout.full(*x.shape, x.device, start=1)
        return x + layout.positions * layout.segments

    with mode():
        found = torch.compile(read, backend="eager", fullgraph=True)(torch.zeros(2, 3))
    assert found.tolist() == 2 * [[1, 2, 3]]


def test_a_rehearsal_leaves_a_layout_real():
    layout = Layout.full(1, 3)
    with FakeTensorMode():
        moved = layout.to("cpu", copy=True)
        assert isinstance(moved.positions, FakeTensor)
        assert isinstance(layout.segments, FakeTensor)
    assert layout.positions.tolist() == [[0, 1, 2]]
    assert layout.segments.tolist() == [[1, 1, 1]]
    assert layout.to(torch.long) is layout


def test_undeclared_is_the_same_and_not_known_to_be_dense():
    layout = Layout.full(2, 3, start=1).undeclared()
    assert (layout.dense, layout.start, layout.sequences) == (False, 1, (2, 3))
    assert layout.positions.tolist() == 2 * [[1, 2, 3]]
    assert lower(layout, layout, causal=False).visible.all()


def test_select_and_to_keep_every_field():
    layout = Layout.full(3, 4, start=2)
    chosen = layout.select(torch.tensor([2, 0]))
    assert (chosen.shape, chosen.dense, chosen.start) == ((2, 4), True, 2)
    assert chosen.sequences == (2, 4)
    elsewhere = Layout.full(3, 4, "meta")
    assert elsewhere.select(torch.tensor([2, 0], device="meta")).device.type == "meta"
    assert elsewhere.extend(Layout.full(3, 1, "meta", start=4)).device.type == "meta"
    moved = layout.to("cpu")
    assert (moved.dense, moved.start) == (True, 2)
    packed = Layout(torch.tensor([[0, 1], [0, 0]]), torch.tensor([[1, 1], [1, 2]]))
    assert packed.select(torch.tensor([1])).segments.tolist() == [[1, 2]]


def test_rows_folded_into_fewer_are_dense_as_any_other():
    folded = Layout.full(4, 3).folded(2)
    assert folded.positions.tolist() == Layout.full(2, 6).positions.tolist()
    assert folded.select(torch.tensor([0])).positions.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_shapes_must_agree():
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        Layout.full(3, 2).extend(Layout.full(5, 1, start=2))
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


def rows_of(layout: Layout) -> list[list[tuple[int, int]]]:
    """Of each row its tokens, as (position, segment)."""
    return [
        list(zip(*row, strict=True))
        for row in zip(layout.positions.tolist(), layout.segments.tolist(), strict=True)
    ]


@st.composite
def any_layouts(draw) -> Layout:
    """Positions and segments that no batch would come to, and the rule holds for all the same."""
    shape = draw(st.tuples(small, small))
    numbers = st.lists(
        st.integers(0, 3), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    )
    positions, segments = (torch.tensor(draw(numbers)).view(shape) for _ in range(2))
    return Layout(positions, segments)


@patient
@given(any_layouts(), st.booleans())
def test_the_rule_holds_for_any_positions_and_segments(layout, causal):
    expected = [
        [[s == t and (not causal or j <= i) for j, t in row] for i, s in row]
        for row in rows_of(layout)
    ]
    assert visible(layout, layout, causal).tolist() == expected
    assert table(lower(layout, layout, causal), layout, layout).tolist() == expected


@patient
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(0, 3), st.booleans())
def test_padded_is_its_lengths(lengths, spare, causal):
    """The tokens of each row are those of its sequence alone, and see what they would alone."""
    length = max(1, *lengths) + spare
    layout = Layout.padded(torch.tensor(lengths), length)
    assert layout.shape == (len(lengths), length)
    assert layout.dense == all(n == length for n in lengths)
    seen = visible(layout, layout, causal)
    for row, n in enumerate(lengths):
        assert rows_of(layout)[row] == [(p, int(p < n)) for p in range(length)]
        alone = Layout.full(1, n)
        assert seen[row, :n, :n].equal(visible(alone, alone, causal)[0])
        assert not seen[row, :n, n:].any()
        assert not seen[row, n:, :n].any()


@patient
@given(st.lists(small, min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_packed_is_each_alone(lengths, spare, causal):
    """Sequences side by side see what each would alone, and nothing of one another."""
    width = sum(lengths) + spare
    layout = Layout(*(torch.tensor([part]) for part in packed_row(lengths, width)))
    expected = torch.zeros(width, width, dtype=torch.bool)
    expected[width - spare :, width - spare :] = visible(layout, layout, causal)[0, width - spare :, width - spare :]  # fmt: skip
    start = 0
    for n in lengths:
        alone = Layout.full(1, n)
        expected[start : start + n, start : start + n] = visible(alone, alone, causal)[0]
        start += n
    assert visible(layout, layout, causal)[0].equal(expected)


@patient
@given(pairs())
def test_extending_puts_one_behind_the_other(pair):
    first, second = pair
    both = first.extend(second)
    joined = zip(rows_of(first), rows_of(second), strict=True)
    assert rows_of(both) == [ours + theirs for ours, theirs in joined]
    assert rows_of(both.head(first.shape[1])) == rows_of(first)
    goes_on = second.start == first.start + first.shape[1]
    assert both.dense == (first.dense and second.dense and goes_on)
    if both.dense:
        assert rows_of(both) == rows_of(Layout.full(*both.shape, start=both.start))


@patient
@given(st.data())
def test_selecting_rows_and_heads(data):
    layout = data.draw(layouts(3))
    rows = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    length = data.draw(st.integers(0, layout.shape[1]))
    chosen, head = layout.select(torch.tensor(rows)), layout.head(length)
    assert rows_of(chosen) == [rows_of(layout)[row] for row in rows]
    assert rows_of(head) == [row[:length] for row in rows_of(layout)]
    assert rows_of(chosen.head(length)) == rows_of(head.select(torch.tensor(rows)))
    for causal in (False, True):  # what remains sees as before
        seen = visible(layout, layout, causal)
        assert visible(chosen, chosen, causal).equal(seen[rows])
        assert visible(head, head, causal).equal(seen[:, :length, :length])
        for part in (chosen, head):
            assert table(lower(part, part, causal), part, part).equal(visible(part, part, causal))
