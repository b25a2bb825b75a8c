"""A training that goes on with another number of devices has taken as many batches as before."""

import pytest

from tfzoo.training.progress import share_anew

STAGES = ("ready", "started", "processed", "completed")


def loop(*counts: int) -> dict:
    progress = dict(zip(STAGES, counts, strict=True))
    return {"epoch_loop.batch_progress": {"total": dict(progress), "current": dict(progress)}}


def shared(state: dict, theirs: int, ours: int) -> list[int]:
    share_anew(state, theirs, ours)
    batches = state["epoch_loop.batch_progress"]
    assert batches["total"] == batches["current"]
    return [batches["current"][stage] for stage in STAGES]


def test_batches_are_counted_anew_and_one_under_way_stays_so():
    assert shared(loop(8, 8, 8, 8), 1, 2) == [4, 4, 4, 4]
    assert shared(loop(5, 5, 5, 4), 2, 1) == [10, 10, 10, 9]
    assert shared(loop(7, 7, 7, 6), 3, 3) == [7, 7, 7, 6]


def test_what_cannot_be_shared_is_read_again_and_told():
    with pytest.warns(UserWarning, match="1 batches of this epoch are read again: 3 were taken"):
        assert shared(loop(3, 3, 3, 3), 1, 2) == [1, 1, 1, 1]
    with pytest.warns(UserWarning, match="read again"):
        assert shared(loop(1, 1, 1, 0), 1, 2) == [0, 0, 0, 0]
