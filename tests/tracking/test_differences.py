"""In what runs differ: settings that are not the same in all, and circumstances."""

from __future__ import annotations

from tfzoo.tracking.differences import Difference, circumstances, differences
from tfzoo.tracking.settings import ABSENT


def test_only_what_is_not_the_same_in_all():
    one = {"a": 1, "b": None, "c": 2.0, "d": True}
    assert differences([one, one | {"c": 3.0}, one]) == [Difference("c", (2.0, 3.0, 2.0))]
    assert differences([one, dict(one)]) == []
    # One and true are equal in Python, and different to who wrote them.
    assert differences([{"a": 1}, {"a": True}]) == [Difference("a", (1, True))]


def test_what_one_of_them_lacks_differs_except_between_tasks():
    configs = [{"a": 1, "b": 1}, {"a": 2, "c": 1}]
    assert differences(configs) == [
        Difference("a", (1, 2)),
        Difference("b", (1, ABSENT)),
        Difference("c", (ABSENT, 1)),
    ]
    assert differences(configs, shared=True) == [Difference("a", (1, 2))]


def test_what_is_left_at_nothing_is_as_if_it_were_not_there():
    """A strategy's arguments, say, which the other run, without one, has not."""
    assert differences([{"a": 1}, {"a": 1, "b": None}]) == []
    assert differences([{"b": None}, {"b": False}]) == [Difference("b", (None, False))]


def test_places_are_told_only_alone():
    configs = [{"data.cache_dir": "/a", "depth": 1}, {"data.cache_dir": "/b", "depth": 2}]
    assert [one.key for one in differences(configs)] == ["depth"]
    assert [one.key for one in differences([c | {"depth": 1} for c in configs])] == [
        "data.cache_dir"
    ]


def test_an_unknown_config_takes_no_part():
    assert differences([{"a": 1}, None, {"a": 2}]) == [Difference("a", (1, ABSENT, 2))]
    assert differences([{"a": 1}, None]) == []


def test_circumstances_are_told_as_far_as_they_are_known():
    entry = {
        "git": {"commit": "0123456789", "changed": True},
        "versions": {"torch": "2.13", "numpy": "2"},
        "devices": {"kind": "cpu", "world_size": 2},
        "precision": "32-true",
        "data": {"train": {"rows": 3, "hash": "abcdefghij"}},
    }
    assert circumstances(entry) == {
        "commit": "01234567+",
        "torch": "2.13",
        "device": "cpu",
        "devices": 2,
        "precision": "32-true",
        "train data": "3 rows, abcdefgh",
    }
    assert circumstances({"git": None, "versions": "none"}) == {}
