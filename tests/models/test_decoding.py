"""Decoding against brute force, on a toy whose logits are random but fixed for every prefix."""

import itertools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tfzoo.backbone import Linear, TransformerConfig
from tfzoo.backbone.linear import parted
from tfzoo.layout import Layout
from tfzoo.models import Beam, Greedy, Hypothesis, LanguageModel, Limits, Sampling, decode
from tfzoo.models.beams import CHUNK, _Beams, largest
from tfzoo.models.decoding import Strategy

END = 0
seeds = st.integers(0, 10**6)
penalties = st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.5])
quick = settings(max_examples=40, deadline=None)


def toy_logits(seed: int, prefix: tuple[int, ...], vocabulary: int) -> Tensor:
    """Of what follows the prefix: any fixed function of it would do."""
    generator = torch.Generator().manual_seed(hash((seed, *prefix)) % 2**63)
    return 2 * torch.randn(vocabulary, generator=generator)


class Toy:
    """Steps without a network. The first token of a prompt is its identity, so rows cannot be mixed up unseen."""

    def __init__(self, seed: int, vocabulary: int, end_in: dict[int, int] | None = None) -> None:
        self.seed, self.vocabulary = seed, vocabulary
        self.end_in = end_in or {}  # of a prompt: after how many tokens it must end
        self.prefixes: list[tuple[int, ...]] = []
        self.rows: list[int] = []  # of each call

    def __call__(self, tokens: Tensor) -> Tensor:
        if not self.rows:
            self.prefixes = [()] * len(tokens)
        assert len(tokens) == len(self.prefixes)
        self.rows.append(len(tokens))
        new = tokens.tolist()
        self.prefixes = [(*p, *t) for p, t in zip(self.prefixes, new, strict=True)]
        logits = torch.stack([toy_logits(self.seed, p, self.vocabulary) for p in self.prefixes])
        for row, prefix in enumerate(self.prefixes):
            if prefix[0] in self.end_in:
                due = len(prefix) > self.end_in[prefix[0]]
                logits[row, END] = 1000.0 if due else -1000.0
        return logits

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        self.prefixes = [self.prefixes[row] for row in rows.tolist()]


def prompt(count: int) -> Tensor:
    return torch.arange(100, 100 + count)[:, None]


def run(
    strategy: Strategy, limits: Limits, seed: int = 0, vocabulary: int = 5, rows: int = 1, **toy
):
    return decode(Toy(seed, vocabulary, **toy), prompt(rows), strategy, limits)


def log_probability(seed: int, vocabulary: int, tokens: tuple[int, ...], first: int = 100) -> float:
    return sum(
        toy_logits(seed, (first, *tokens[:t]), vocabulary).double().log_softmax(-1)[token].item()
        for t, token in enumerate(tokens)
    )


def every_hypothesis(seed: int, vocabulary: int, limits: Limits, length_penalty: float):
    """All sequences that end, or that reach the limit without ending; best first."""
    found = []
    words = [t for t in range(vocabulary) if t != limits.end]
    for length in range(1, limits.max_tokens + 1):
        last = range(vocabulary) if length == limits.max_tokens else [END]
        for *head, tail in itertools.product(*[words] * (length - 1), last):
            tokens = (*head, tail)
            score = log_probability(seed, vocabulary, tokens) / ((5 + length) / 6) ** length_penalty
            found.append(Hypothesis(list(tokens[:-1] if tail == limits.end else tokens), score))
    return sorted(found, key=lambda h: -h.score)


@contextmanager
def never_stopping() -> Iterator[None]:
    """Beam search that goes on to the limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Beams, "_going", lambda self, scores, length: list(range(len(scores))))
        yield


class TestBeam:
    @quick
    @given(seeds, st.integers(2, 4), st.integers(1, 4), penalties)
    def test_a_wide_beam_is_exhaustive_search(self, seed, vocabulary, longest, penalty):
        limits = Limits(END, longest)
        [found] = run(Beam(400, penalty), limits, seed, vocabulary)
        best = every_hypothesis(seed, vocabulary, limits, penalty)[0]
        assert found[0].tokens == best.tokens
        assert found[0].score == pytest.approx(best.score, abs=1e-4)

    @quick
    @given(seeds, st.integers(2, 3), st.integers(1, 4), penalties)
    def test_without_stopping_a_wide_beam_finds_every_hypothesis(
        self, seed, vocabulary, longest, penalty
    ):
        limits = Limits(END, longest)
        with never_stopping():
            [found] = run(Beam(400, penalty), limits, seed, vocabulary)
        expected = every_hypothesis(seed, vocabulary, limits, penalty)
        assert len(found) == len(expected)
        assert sorted(h.tokens for h in found) == sorted(h.tokens for h in expected)
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-4)

    @quick
    @given(seeds, st.integers(2, 6), st.integers(1, 6), penalties)
    def test_a_beam_of_one_is_greedy(self, seed, vocabulary, longest, penalty):
        limits = Limits(END, longest)
        beams = run(Beam(1, penalty), limits, seed, vocabulary, rows=3)
        greedy = run(Greedy(), limits, seed, vocabulary, rows=3)
        for [one], [other] in zip(beams, greedy, strict=True):
            assert one.tokens == other.tokens
            length = min(len(one.tokens) + 1, longest)
            assert one.score * ((5 + length) / 6) ** penalty == pytest.approx(other.score, abs=1e-4)

    @quick
    @given(seeds, st.integers(2, 6), st.integers(1, 7), penalties, st.integers(1, 6))
    def test_exact_stopping_equals_running_to_the_end(
        self, seed, vocabulary, longest, penalty, size
    ):
        limits = Limits(END, longest)
        stopped = run(Beam(size, penalty), limits, seed, vocabulary, rows=3)
        with never_stopping():
            through = run(Beam(size, penalty), limits, seed, vocabulary, rows=3)
        for one, other in zip(stopped, through, strict=True):
            assert one[0] == other[0]
            assert [h for h in other if h in one] == one

    @quick
    @given(seeds, st.integers(2, 6), st.integers(1, 6), penalties, st.integers(1, 5))
    def test_all_of_a_batch_equals_one_by_one(self, seed, vocabulary, longest, penalty, size):
        limits = Limits(END, longest)
        together = run(Beam(size, penalty), limits, seed, vocabulary, rows=7)
        for row in range(7):
            alone = decode(
                Toy(seed, vocabulary), prompt(7)[row : row + 1], Beam(size, penalty), limits
            )
            assert alone == [together[row]]

    def test_scores_are_log_probability_over_the_penalty(self):
        for penalty in (0.0, 0.6, 2.0):
            [found] = run(Beam(4, penalty), Limits(END, 6), seed=3)
            for tokens, score in found:
                whole = (*tokens, END) if len(tokens) < 6 else tuple(tokens)
                expected = log_probability(3, 5, whole) / ((5 + len(whole)) / 6) ** penalty
                assert score == pytest.approx(expected, abs=1e-4)
            assert found == sorted(found, key=lambda h: -h.score)

    def test_at_most_so_many_hypotheses_as_beams(self):
        with never_stopping():
            for size in (1, 2, 5):
                assert all(len(found) == size for found in run(Beam(size), Limits(END, 12), rows=6))

    def test_a_stronger_penalty_prefers_longer_hypotheses(self):
        length = [
            sum(len(h[0].tokens) for h in run(Beam(8, penalty), Limits(END, 8), rows=20))
            for penalty in (-2.0, 0.0, 1.0, 4.0)
        ]
        assert length == sorted(length)
        assert length[0] < length[-1]

    def test_the_search_ends_when_nothing_can_be_beaten(self):
        toy = Toy(0, 5, end_in={100: 0})
        decode(toy, prompt(1), Beam(4), Limits(END, 50))
        assert len(toy.rows) == 1

    @pytest.mark.parametrize(
        ("penalty", "ends_at_once", "length", "longest"),
        [(1.0, 0.51, 8, 8), (1.0, 0.51, 8, 20), (-0.5, 0.45, 2, 50), (0.0, 0.45, 9, 9)],
    )
    def test_what_could_still_win_is_waited_for(self, penalty, ends_at_once, length, longest):
        """One hypothesis ends at once; the other is a little worse so far, then certain, and wins in the end."""

        class Slow(Toy):
            def __call__(self, tokens: Tensor) -> Tensor:
                logits = super().__call__(tokens)
                if len(self.rows) == 1:
                    return torch.tensor([[ends_at_once, 1 - ends_at_once]]).log()
                certain = END if len(self.rows) == length else 1
                return torch.full_like(logits, -50.0).index_fill(1, torch.tensor(certain), 50.0)

        [found] = decode(Slow(0, 2), prompt(1), Beam(2, penalty), Limits(END, longest))
        assert found[0].tokens == [1] * (length - 1)

    def test_sentences_that_are_done_leave(self):
        toy = Toy(0, 5, end_in={100 + row: row for row in range(4)})
        found = decode(toy, prompt(4), Beam(3), Limits(END, 50))
        assert [len(hypotheses[0].tokens) for hypotheses in found] == [0, 1, 2, 3]
        assert toy.rows == [4, 9, 6, 3]

    def test_logits_that_are_no_numbers_give_an_empty_hypothesis(self):
        class Diverged(Toy):
            def __call__(self, tokens: Tensor) -> Tensor:
                return super().__call__(tokens) * math.nan

        found = decode(Diverged(0, 5), prompt(2), Beam(3), Limits(END, 4))
        assert found == [[Hypothesis([], -math.inf)]] * 2

    def test_a_bad_size_is_named(self):
        with pytest.raises(ValueError, match="beam size must be at least 1, not 0"):
            Beam(0)


class TestOneByOne:
    @quick
    @given(seeds, st.integers(2, 6), st.integers(1, 8))
    def test_greedy_takes_the_most_probable_token_each_time(self, seed, vocabulary, longest):
        found = run(Greedy(), Limits(END, longest), seed, vocabulary, rows=9)
        for first, [hypothesis] in enumerate(found, start=100):
            tokens: list[int] = []
            while len(tokens) < longest and END not in tokens:
                tokens.append(int(toy_logits(seed, (first, *tokens), vocabulary).argmax()))
            assert hypothesis.tokens == [t for t in tokens if t != END]
            expected = log_probability(seed, vocabulary, tuple(tokens), first)
            assert hypothesis.score == pytest.approx(expected, abs=1e-4)

    def test_rows_leave_once_a_quarter_is_done(self):
        toy = Toy(0, 5, end_in={100 + row: row for row in range(8)})
        found = decode(toy, prompt(8), Greedy(), Limits(END, 50))
        assert [len(h.tokens) for [h] in found] == list(range(8))
        assert toy.rows == [8, 8, 6, 6, 4, 3, 2, 1]

    def test_nothing_is_computed_after_the_last_token(self):
        toy = Toy(0, 5)
        decode(toy, prompt(2), Greedy(), Limits(None, 4))
        assert toy.rows == [2] * 4

    def test_samples_stay_with_their_rows_when_others_leave(self):
        ends = {100 + row: row for row in range(8)}
        found = run(Sampling(seed=1), Limits(END, 50), rows=8, end_in=ends)
        assert [len(h.tokens) for [h] in found] == list(range(8))
        # A near-zero temperature is greedy, whatever the draw.
        cold = run(Sampling(temperature=1e-6, seed=1), Limits(END, 50), rows=8)
        assert [h.tokens for [h] in cold] == [
            h.tokens for [h] in run(Greedy(), Limits(END, 50), rows=8)
        ]


STRATEGIES = [Greedy(), Sampling(seed=0), Sampling(top_k=2, top_p=0.5, seed=0), Beam(1), Beam(4), Beam(20)]  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
class TestLimits:
    def test_forbidden_tokens_never_come(self, strategy):
        found = run(strategy, Limits(END, 12, forbidden=(2, 3)), rows=20)
        tokens = {token for hypotheses in found for h in hypotheses for token in h.tokens}
        assert tokens == {1, 4}
        assert all(math.isfinite(h.score) for hypotheses in found for h in hypotheses)

    def test_scores_are_those_of_what_is_allowed(self, strategy):
        """Forbidding all but one token leaves no doubt."""
        found = run(strategy, Limits(END, 3, forbidden=(0, 1, 2, 4)))
        assert [found[0][0].tokens, found[0][0].score] == [[3, 3, 3], 0.0]

    def test_a_forbidden_end_never_comes(self, strategy):
        found = run(strategy, Limits(END, 6, forbidden=[END]), rows=5)
        assert {len(h.tokens) for hypotheses in found for h in hypotheses} == {6}

    def test_without_an_end_token_all_run_to_the_limit(self, strategy):
        found = run(strategy, Limits(None, 7), rows=5)
        assert {len(h.tokens) for hypotheses in found for h in hypotheses} == {7}
        assert any(END in h.tokens for hypotheses in found for h in hypotheses)

    def test_the_end_token_is_not_part_of_the_text(self, strategy):
        found = run(strategy, Limits(END, 20), rows=9)
        assert all(END not in h.tokens for hypotheses in found for h in hypotheses)

    def test_no_tokens_and_no_rows(self, strategy):
        assert run(strategy, Limits(END, 0), rows=2) == [[Hypothesis([], 0.0)]] * 2
        assert run(strategy, Limits(END, 3), rows=0) == []

    def test_logits_may_be_one_row_seen_many_times(self, strategy):
        class Alike(Toy):
            def __call__(self, tokens: Tensor) -> Tensor:
                return torch.zeros(1, 5).expand(len(super().__call__(tokens)), -1)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = decode(Alike(0, 5), prompt(3), strategy, Limits(None, 2))
        assert [len(hypotheses[0].tokens) for hypotheses in found] == [2, 2, 2]


def naive(logits: list[float], sampling: Sampling) -> list[float]:
    """The definition, token by token."""
    weights = [math.exp((x - max(logits)) / sampling.temperature) for x in logits]
    order = sorted(range(len(logits)), key=lambda token: -weights[token])[: sampling.top_k]
    if sampling.top_p is not None:
        total, reached, kept = sum(weights[t] for t in order), 0.0, []
        for token in order:
            if reached >= sampling.top_p:
                break
            kept.append(token)
            reached += weights[token] / total
        order = kept
    total = sum(weights[t] for t in order)
    return [weights[t] / total if t in order else 0.0 for t in range(len(logits))]


class TestSampling:
    @quick
    @given(
        st.lists(st.floats(-5, 5), min_size=1, max_size=8, unique_by=lambda x: round(x, 2)),
        st.sampled_from([0.3, 1.0, 2.0]),
        st.none() | st.integers(1, 9),
        st.none() | st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    )
    def test_the_distribution_is_its_definition(self, logits, temperature, top_k, top_p):
        sampling = Sampling(temperature, top_k, top_p)
        got = sampling.distribution(torch.tensor([logits, logits[::-1]]))
        assert got[0].tolist() == pytest.approx(naive(logits, sampling), abs=1e-5)
        assert got[1].tolist() == pytest.approx(naive(logits[::-1], sampling), abs=1e-5)

    def test_draws_follow_the_distribution(self):
        sampling = Sampling(temperature=0.7, top_k=4, top_p=0.95)
        logits = torch.tensor([0.0, 1.0, 0.5, -0.5, -3.0, 0.2])
        generator = torch.Generator().manual_seed(0)
        drawn = sampling.choose(logits.expand(20_000, 6), generator)
        frequency = drawn.bincount(minlength=6) / len(drawn)
        torch.testing.assert_close(frequency, sampling.distribution(logits), atol=0.02, rtol=0)

    def test_forbidden_tokens_stay_so_when_fewer_than_k_are_allowed(self):
        logits = torch.tensor([1.0, -math.inf, 0.0, -math.inf])
        assert Sampling(top_k=3).distribution(logits)[[1, 3]].tolist() == [0.0, 0.0]
        assert Sampling(top_p=0.99).distribution(logits)[[1, 3]].tolist() == [0.0, 0.0]

    def test_a_seed_repeats_the_draw_and_another_does_not(self):
        one = run(Sampling(seed=1), Limits(None, 30))
        assert one == run(Sampling(seed=1), Limits(None, 30))
        assert one != run(Sampling(seed=2), Limits(None, 30))

    def test_without_a_seed_the_global_generator_draws(self):
        torch.manual_seed(7)
        one = run(Sampling(), Limits(None, 30))
        assert one != run(Sampling(), Limits(None, 30))
        torch.manual_seed(7)
        assert one == run(Sampling(), Limits(None, 30))

    def test_scores_are_those_of_the_network_whatever_the_temperature(self):
        [[found]] = run(Sampling(temperature=0.5, top_k=3, seed=4), Limits(None, 5))
        expected = log_probability(0, 5, tuple(found.tokens))
        assert found.score == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize(
        ("bad", "sentence"),
        [
            ({"temperature": 0.0}, "temperature must be above 0, not 0.0; for 0 decode greedily"),
            ({"temperature": -1.0}, "temperature must be above 0, not -1.0"),
            ({"top_k": 0}, "top_k must be at least 1, not 0"),
            ({"top_p": 0.0}, r"top_p must be in \(0, 1\], not 0.0"),
            ({"top_p": 1.1}, r"top_p must be in \(0, 1\], not 1.1"),
        ],
    )
    def test_a_bad_value_is_named(self, bad, sentence):
        with pytest.raises(ValueError, match=sentence):
            Sampling(**bad)


@pytest.mark.parametrize("vocabulary", [7, CHUNK, 5 * CHUNK, 6 * CHUNK + 1, 30 * CHUNK - 1])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_largest_of_many_are_found_by_chunks(vocabulary, count):
    for seed in range(20):
        logits = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(seed))
        logits[0, 2:] = -math.inf  # fewer that may be chosen than are asked for
        logits[1, -1] = 9.0
        found = largest(logits, count)
        assert torch.equal(logits.gather(1, found), logits.topk(count).values)
        assert found[1, 0] == vocabulary - 1
        assert all(len(set(row)) == count for row in found.tolist())


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL has such products")
def test_a_decoding_asks_a_layer_once():
    config = TransformerConfig(dim=32, depth=2, heads=4, max_length=16)
    model, prompt = LanguageModel(config, 7).eval(), torch.tensor([[1, 2]])
    with mock.patch(f"{Linear.__module__}.parted", wraps=parted) as asked:
        decode(model.steps(Layout.full(1, 2)), prompt, Greedy(), Limits(None, 5))
    layers = sum(isinstance(part, Linear) for part in model.modules())
    assert asked.call_count == layers + 5  # an embedding gives logits, and is asked for each
