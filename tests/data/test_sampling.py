"""Laws of the samplers: each sample once, budgets kept, all processes alike, resumed as never stopped."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from tfzoo.data.budget import CountSampler, PackingSampler, TokenBudgetSampler, pack
from tfzoo.data.sampling import PlannedSampler

LENGTHS = np.clip(np.random.default_rng(0).lognormal(2, 0.7, 300).astype(int), 1, 60)
SAMPLERS = {
    "count": lambda shuffle=True: CountSampler(300, 16, shuffle),
    "budget": lambda shuffle=True: TokenBudgetSampler(LENGTHS, 256, shuffle),
    "packing": lambda shuffle=True: PackingSampler(LENGTHS, 256, 60, shuffle),
}
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=80)


def drawn(sampler: PlannedSampler) -> list[int]:
    return [draw.sample for batch in sampler for draw in batch]


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, budget=st.integers(40, 200), packed=st.booleans(), shuffle=st.booleans())
def test_every_sample_once_and_never_above_the_budget(lengths, budget, packed, shuffle):
    sampler = (
        PackingSampler(lengths, budget, 40, shuffle)
        if packed
        else TokenBudgetSampler(lengths, budget, shuffle)
    )
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(draw.sample for batch in batches for draw in batch) == list(range(len(lengths)))
    for batch in batches:
        rows = defaultdict(int)
        for draw in batch:
            rows[draw.row] += lengths[draw.sample]
        assert len(rows) * max(rows.values()) <= budget


@pytest.mark.parametrize(
    "sampler",
    [
        CountSampler(64, 4, shuffle=True),
        TokenBudgetSampler([17, 18] * 32, 4 * 18, shuffle=True),
        PackingSampler([4] * 64, 16, 16, shuffle=True),
    ],
    ids=["count", "budget", "packing"],
)
def test_samples_of_a_kind_meet_by_chance_alone(sampler):
    """Of 96 pairs in batches of 4, one in 21 meets again in the next epoch; half of all are of two parities."""
    met = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        met.append({pair for b in sampler for pair in combinations(sorted(d.sample for d in b), 2)})
    assert [len(pairs) for pairs in met] == [96, 96]
    assert len(met[0] & met[1]) < 16
    assert 24 < sum((one + other) % 2 for one, other in met[0]) < 72


@settings(deadline=None, max_examples=40)
@given(
    pairs=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=50),
    packed=st.booleans(),
)
def test_pairs_keep_the_budget_on_both_sides(pairs, packed):
    sampler = PackingSampler(pairs, 90, 40) if packed else TokenBudgetSampler(pairs, 90)
    for batch in sampler:
        rows = defaultdict(lambda: np.zeros(2, int))
        for draw in batch:
            rows[draw.row] += pairs[draw.sample]
        assert (len(rows) * np.max(list(rows.values()), axis=0) <= 90).all()


def test_buckets_waste_little_and_packing_less():
    def use(sampler: PlannedSampler) -> float:
        real = size = 0
        for batch in sampler:
            rows = defaultdict(int)
            for draw in batch:
                rows[draw.row] += LENGTHS[draw.sample]
            real, size = real + sum(rows.values()), size + len(rows) * max(rows.values())
        return real / size

    assert use(SAMPLERS["budget"]()) > 0.85
    assert use(SAMPLERS["packing"]()) > 0.95


def test_pairs_of_like_lengths_on_both_sides_come_together():
    """Sides of a pair differ by as much as those of real sentences: their longer one alone says too little."""
    chance = np.random.default_rng(0)
    longer = np.clip(chance.lognormal(2.7, 0.4, 10_000).astype(int), 4, 50)
    other = np.maximum(1, (longer * chance.uniform(0.6, 1, 10_000)).astype(int))
    pairs = np.stack([longer, other], axis=1)
    pairs[::2] = pairs[::2, ::-1]

    def padding(sampler: PlannedSampler) -> float:
        batches = [pairs[[draw.sample for draw in batch]] for batch in sampler]
        return 1 - pairs.sum() / sum(len(batch) * batch.max(axis=0).sum() for batch in batches)

    both, one = TokenBudgetSampler(pairs, 2048, True), TokenBudgetSampler(longer, 2048, True)
    assert len(both) == len(one)
    assert padding(both) < 0.7 * padding(one)

    def met(sampler: PlannedSampler) -> float:
        """Of those that are in a batch together, how many are so again in the next pass."""
        first, second = (
            {draw.sample: k for k, batch in enumerate(sampler) for draw in batch} for _ in range(2)
        )
        together = Counter(first.values())
        again = Counter((first[sample], second[sample]) for sample in first)
        return sum(n * (n - 1) for n in again.values()) / sum(
            n * (n - 1) for n in together.values()
        )

    assert met(both) < 0.65


@pytest.mark.parametrize("kind", SAMPLERS)
def test_epochs_differ_and_are_repeatable(kind):
    sampler = SAMPLERS[kind]()
    first, second = drawn(sampler), drawn(sampler)
    assert first != second, "a new pass is a new order, announced or not"
    sampler.set_epoch(0)
    assert drawn(sampler) == first
    assert len({len(list(sampler)) for _ in range(5)}) == 1, "as many batches in every epoch"
    fixed = SAMPLERS[kind](shuffle=False)
    assert drawn(fixed) == drawn(fixed)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("processes", [2, 3, 7])
@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_get_equally_many_batches_and_each_sample_once(kind, processes, shuffle):
    seen, counts = [], set()
    for rank in range(processes):
        sampler = SAMPLERS[kind](shuffle)
        sampler.share = (rank, processes)
        batches = list(sampler)
        assert len(sampler) == len(batches)
        counts.add(len(batches))
        seen += [draw.sample for batch in batches for draw in batch]
    assert len(counts) == 1
    assert sorted(seen) == list(range(300))


def shares(sampler, processes: int) -> list[list]:
    """The batches of every process."""
    found = []
    for rank in range(processes):
        sampler.set_epoch(0)
        sampler.share = (rank, processes)
        found.append(list(sampler))
    return found


def samples(batches: list) -> list[int]:
    return sorted(draw.sample for batch in batches for draw in batch)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=40, max_size=80),
    budget=st.integers(40, 100),
    processes=st.integers(2, 4),
    accumulated=st.integers(1, 3),
    packed=st.booleans(),
)
def test_processes_see_in_each_step_what_one_sees_that_accumulates(
    lengths, budget, processes, accumulated, packed
):
    sampler = (
        PackingSampler(lengths, budget, 40, True)
        if packed
        else TokenBudgetSampler(lengths, budget, True)
    )
    (alone,) = shares(sampler, 1)
    # What is left after the last whole round must share out by itself.
    rest = alone[len(alone) - len(alone) % processes :]
    assume(not rest or sum(len({draw.row for draw in batch}) for batch in rest) >= processes)
    shared = shares(sampler, processes)
    step = processes * accumulated
    for place in range(0, len(alone), step):
        ours = alone[place : place + step]
        start = place // processes
        theirs = [batch for share in shared for batch in share[start : start + accumulated]]
        assert samples(theirs) == samples(ours)
    assert samples([b for share in shared for b in share]) == samples(alone)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_evaluation_reads_the_same_batches_on_any_number_of_processes(kind, processes):
    (alone,) = shares(SAMPLERS[kind](shuffle=False), 1)
    shared = shares(SAMPLERS[kind](shuffle=False), processes)
    assert [one for turn in zip(*shared, strict=True) for one in turn] == alone


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_epoch_begun_on_one_process_is_ended_by_two(kind):
    (alone,) = shares(SAMPLERS[kind](), 1)
    sampler = SAMPLERS[kind]()
    sampler.share = (0, 1)
    passed = iter(sampler)
    taken = [next(passed) for _ in range(4)]
    rest = []
    for rank in range(2):
        again = SAMPLERS[kind]()
        again.share = (rank, 2)
        resumed = iter(again)
        resumed.load_state_dict(passed.state_dict())
        rest += list(resumed)
    assert samples(taken + rest) == samples(alone)


def test_too_few_samples_for_the_processes_are_refused():
    sampler = CountSampler(3, 2)
    sampler.share = (0, 4)
    with pytest.raises(ValueError, match="3 samples are too few to share among 4 processes"):
        list(sampler)


class Echo(Dataset):
    def __getitems__(self, draws):
        return draws


def loader(kind: str, workers: int) -> StatefulDataLoader:
    return StatefulDataLoader(
        Echo(), batch_sampler=SAMPLERS[kind](), collate_fn=list, num_workers=workers
    )


@pytest.mark.parametrize(("kind", "workers"), [("budget", 0), ("packing", 0), ("count", 1)])
@pytest.mark.parametrize("taken", [0, 5, "all"])
def test_a_resumed_loader_goes_on_as_the_one_never_stopped(kind, workers, taken):
    reference = loader(kind, 0)
    whole = [batch for _ in range(3) for batch in reference]
    stopped = loader(kind, workers)
    count = len(stopped) if taken == "all" else taken
    for _ in stopped:  # a first epoch
        pass
    state = stopped.state_dict() if taken == 0 else None
    passed = iter(stopped)
    for _ in range(count):
        next(passed)
    if taken == "all":
        assert next(passed, None) is None
    state = state or stopped.state_dict()
    resumed = loader(kind, workers)
    resumed.load_state_dict(state)
    after = [batch for _ in range(2) for batch in resumed]
    expected = whole[len(stopped) + count :]
    assert after[: len(expected)] == expected


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TokenBudgetSampler([3, 50, 4], 20), "sample 1 has 50 tokens"),
        (lambda: PackingSampler([3, 50, 4], 100, 20), "sample 1 has 50 tokens"),
        (lambda: TokenBudgetSampler([3], 0), "batch_tokens must be positive"),
        (lambda: CountSampler(3, 0), "batch_size must be positive"),
    ],
)
def test_mistakes_are_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@settings(deadline=None, max_examples=100)
@given(found=st.lists(st.integers(1, 40), max_size=80), width=st.integers(40, 60))
def test_packing_loses_nothing_and_fits(found, width):
    """Nothing is lost, no row is above its width, and none was begun while an older one had room."""
    rows = pack(np.sort(np.array(found, np.int64))[::-1], width)
    assert sorted(length for row in rows for length in row) == sorted(found)
    assert all(0 < sum(row) <= width for row in rows)
    assert all(sum(one) + other[0] > width for one, other in combinations(rows, 2))


@settings(deadline=None, max_examples=40)
@given(
    lengths=lengths,
    budget=st.integers(40, 200),
    packed=st.booleans(),
    taken=st.integers(0, 40),
    shuffle=st.booleans(),
)
def test_a_pass_goes_on_from_anywhere(lengths, budget, packed, taken, shuffle):
    def make() -> PlannedSampler:
        if packed:
            return PackingSampler(lengths, budget, 40, shuffle)
        return TokenBudgetSampler(lengths, budget, shuffle)

    sampler = make()
    whole = [*sampler, *sampler]
    stopped = iter(make())
    taken = min(taken, len(sampler))
    for _ in range(taken):
        next(stopped)
    resumed = make()
    passing = iter(resumed)
    passing.load_state_dict(stopped.state_dict())
    after = [*passing, *resumed]
    assert after[: len(whole) - taken] == whole[taken:]
