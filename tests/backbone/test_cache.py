"""The cache: what is appended comes back in order, and rows can be chosen, repeated and dropped."""

import pytest
import torch

from tfzoo.backbone import Cache, CrossCache, SelfCache
from tfzoo.layout import Layout


def test_appended_keys_and_values_come_back_in_order():
    keys, values = torch.randn(2, 3, 2, 7, 4)
    cache = SelfCache(10)
    for start, end in [(0, 3), (3, 4), (4, 7)]:
        got = cache.append(keys[:, :, start:end], values[:, :, start:end])
        assert got[0].equal(keys[:, :, :end])
        assert got[1].equal(values[:, :, :end])
    assert cache.length == 7


def test_room_is_taken_once():
    cache = SelfCache(3)
    cache.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
    room = cache.keys.data_ptr()
    cache.append(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert cache.keys.data_ptr() == room
    with pytest.raises(ValueError, match="the cache has room for 3 tokens, not for 4"):
        cache.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))


@pytest.mark.parametrize("rows", [[1, 0, 2], [2], [0, 0, 1, 2, 2], []])
def test_self_cache_reorders_and_goes_on(rows):
    keys, values = torch.randn(2, 3, 2, 5, 4)
    chosen = torch.tensor(rows, dtype=torch.long)
    cache = SelfCache(8)
    cache.append(keys[:, :, :3], values[:, :, :3])
    cache.reorder(chosen)
    got = cache.append(keys[chosen, :, 3:], values[chosen, :, 3:])
    assert got[0].equal(keys[chosen])
    assert got[1].equal(values[chosen])


def test_cross_cache_projects_once_and_selects():
    calls = []

    def project():
        calls.append(1)
        return torch.arange(3.0)[:, None, None, None], torch.arange(3.0, 6.0)[:, None, None, None]

    cache = CrossCache()
    cache.get(project)
    cache.select(torch.tensor([2, 0]))
    keys, values = cache.get(project)
    assert (keys.flatten().tolist(), values.flatten().tolist()) == ([2, 0], [5, 3])
    assert calls == [1]


def test_beams_share_a_memory_that_is_copied_only_when_a_sentence_is_done():
    cache = Cache([SelfCache(4)])
    cross = cache.blocks[0][1]
    memory = torch.arange(3.0)[:, None, None, None]
    cross.get(lambda: (memory, memory + 3))
    # Three sentences of one row each become three of two beams.
    assert cache.reorder(torch.tensor([0, 0, 1, 1, 2, 2]), beams=2).tolist() == [0, 1, 2]
    place = cross.keys.data_ptr()
    assert cache.reorder(torch.tensor([1, 0, 2, 2, 5, 4]), beams=2) is None
    assert cross.keys.data_ptr() == place
    assert cache.reorder(torch.tensor([1, 1, 4, 5]), beams=2).tolist() == [0, 2]
    assert cross.keys.flatten().tolist() == [0, 2]
    assert cross.values.flatten().tolist() == [3, 5]
    # As many rows, but who knows which: single rows may come in any order.
    assert cache.reorder(torch.tensor([2, 0])).tolist() == [1, 0]
    assert cross.keys.flatten().tolist() == [2, 0]


def test_reordering_an_empty_cache_is_nothing():
    Cache([SelfCache(5), SelfCache(5)]).reorder(torch.tensor([1, 0]))


def test_the_cache_knows_the_layout_of_its_keys():
    cache = Cache([SelfCache(8), SelfCache(8)])
    cache.extend(Layout.full(2, 3))
    seen = cache.extend(Layout.full(2, 1, start=3))
    assert seen.dense
    assert seen.positions.tolist() == [[0, 1, 2, 3]] * 2
    cache.reorder(torch.tensor([1]))
    assert cache.layout.shape == (1, 4)

    cache = Cache([SelfCache(8), SelfCache(8)])
    cache.extend(Layout.padded(torch.tensor([3, 1]), 3))
    position = torch.tensor([[3], [1]])
    cache.extend(Layout(position, torch.ones_like(position)))
    cache.reorder(torch.tensor([1, 1]))
    assert cache.layout.segments.tolist() == [[1, 0, 0, 1]] * 2
    assert cache.layout.positions[0, -1] == 1
