"""Learning rates at the corners of their curves, and which weights decay."""

import math
from itertools import pairwise

import pytest
import torch
from small_tasks import every_task, generation, image_classification
from torch import nn
from torch.optim import SGD, AdamW

from tfzoo.training.optim import (
    Constant,
    Cosine,
    Falling,
    InverseSquareRoot,
    Linear,
    Schedule,
    WarmupStableDecay,
    decay_groups,
    scheduled,
)

TOTAL, WARMUP = 1000, 100
KINDS = [Constant, InverseSquareRoot, Linear, Cosine, WarmupStableDecay]


def curve(schedule: Schedule) -> list[float]:
    return [schedule.at(step, TOTAL) for step in range(TOTAL + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_it_rises_in_a_line_to_the_peak_and_never_again(kind):
    rates = curve(kind(warmup=WARMUP))
    assert rates[:WARMUP] == pytest.approx([(step + 1) / WARMUP for step in range(WARMUP)])
    assert max(rates) == rates[WARMUP - 1] == 1.0
    assert all(later <= rate + 1e-12 for rate, later in pairwise(rates[WARMUP:]))
    assert all(rate > 0 for rate in rates[:-1])
    # Without a jump where warmup ends.
    assert rates[WARMUP] == pytest.approx(1.0, abs=0.011)


@pytest.mark.parametrize("kind", KINDS)
def test_without_warmup_it_begins_at_the_peak(kind):
    assert kind(warmup=0).at(0, TOTAL) == 1.0


@pytest.mark.parametrize("kind", [Linear, Cosine, WarmupStableDecay])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_it_ends_at_the_final_share_and_stays_there(kind, final):
    schedule = kind(warmup=WARMUP, final=final)
    assert schedule.at(TOTAL, TOTAL) == pytest.approx(final, abs=1e-12)
    assert schedule.at(2 * TOTAL, TOTAL) == pytest.approx(final, abs=1e-12)
    # The last step that is taken is the one before.
    assert schedule.at(TOTAL - 1, TOTAL) == pytest.approx(final, abs=0.01)


def test_half_way():
    middle = (WARMUP + TOTAL) // 2
    assert Linear(WARMUP).at(middle, TOTAL) == pytest.approx(0.5)
    assert Cosine(WARMUP, final=0.2).at(middle, TOTAL) == pytest.approx(0.6)
    assert Constant(WARMUP).at(middle, TOTAL) == 1.0
    assert WarmupStableDecay(WARMUP, decay=0.5).at(middle, TOTAL) == pytest.approx(1.0)
    assert WarmupStableDecay(WARMUP, decay=1.0).at(middle, TOTAL) == pytest.approx(0.5)


def test_a_stable_rate_falls_over_the_last_steps_alone():
    rates = curve(WarmupStableDecay(WARMUP, decay=0.2))
    begins = TOTAL - round(0.2 * (TOTAL - WARMUP))
    assert rates[WARMUP : begins + 1] == pytest.approx([1.0] * (begins + 1 - WARMUP))
    assert rates[begins + 1] < 0.999


@pytest.mark.parametrize("dim", [512, 1024])
def test_the_papers_schedule(dim):
    # Vaswani et al. 2017, equation 3, with steps counted from 1.
    schedule, peak = InverseSquareRoot(warmup=4000), (dim * 4000) ** -0.5
    for step in (1, 100, 4000, 4001, 100_000):
        rate = dim**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert peak * schedule.at(step - 1, 0) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Constant(warmup=-1), "warmup must not be negative"),
        (lambda: Linear(total=0), "total must be at least 1"),
        (lambda: WarmupStableDecay(decay=0.0), r"decay must be in \(0, 1\]"),
        (lambda: WarmupStableDecay(decay=1.5), r"decay must be in \(0, 1\]"),
    ],
)
def test_schedules_check_themselves(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def rates_of(schedule: Schedule, max_steps: int, steps: int) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    settings = scheduled(optimizer, schedule, max_steps)["lr_scheduler"]
    assert settings["interval"] == "step"
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        settings["scheduler"].step()
    return rates


def test_the_length_of_training_comes_from_the_config():
    assert rates_of(Linear(), 4, 4) == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert rates_of(Linear(total=8), 4, 4) == pytest.approx([0.5, 0.4375, 0.375, 0.3125])
    assert rates_of(Linear(total=4), -1, 2) == pytest.approx([0.5, 0.375])


@pytest.mark.parametrize("kind", [Linear, Cosine, WarmupStableDecay])
def test_a_falling_rate_must_know_where_training_ends(kind):
    assert issubclass(kind, Falling)
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} must know .* trainer.max_steps, or the"
    ):
        rates_of(kind(), -1, 1)


def test_others_need_not_know():
    assert rates_of(Constant(), -1, 2) == [0.5, 0.5]
    assert rates_of(InverseSquareRoot(warmup=1), -1, 3) == pytest.approx(
        [0.5, 0.5 / math.sqrt(2), 0.5 / math.sqrt(3)]
    )


def test_matrices_decay_and_the_rest_does_not():
    for task, _ in every_task():
        decaying, rest = (group["params"] for group in decay_groups(task))
        names = {id(p): name for name, p in task.named_parameters()}
        assert all(p.dim() >= 2 for p in decaying)
        assert {id(p) for p in decaying + rest} == set(names)
        assert len(decaying) + len(rest) == len(names)
        for parameter in rest:
            name = names[id(parameter)]
            assert "bias" in name or "norm" in name or "class_token" in name, name
        for parameter in decaying:
            assert names[id(parameter)].endswith("weight"), names[id(parameter)]


def test_the_class_token_does_not_decay():
    task = image_classification()
    _, rest = decay_groups(task)
    assert any(p is task.network.embedding.class_token for p in rest["params"])
    assert rest["weight_decay"] == 0.0


def test_what_is_frozen_is_not_optimised():
    task = generation()
    task.network.embedding.requires_grad_(False)
    given = [p for group in decay_groups(task) for p in group["params"]]
    assert not any(p is task.network.embedding.weight for p in given)


def test_weight_decay_is_the_optimisers_for_matrices_alone():
    task = generation()
    optimizer = AdamW(decay_groups(task), lr=0.1, weight_decay=0.5)
    before = {name: p.clone() for name, p in task.named_parameters()}
    for parameter in task.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in task.named_parameters():
        factor = 0.95 if parameter.dim() >= 2 else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)
