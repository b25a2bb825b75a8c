"""Contestants at the same work, in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

OURS = "tfzoo"
ROUND = 1.0
"""Seconds that a contestant's turn takes at least: work that is shorter is done several times."""


@dataclass
class Contestant:
    """Someone who does a piece of work.

    work: done once a call; kept: the tensors that live on between two calls.
    """

    name: str
    work: Callable[[], Any]
    kept: Callable[[], Iterable[Tensor]] = tuple


@dataclass
class Result:
    """What a contestant took: seconds of each round, and bytes at the peak, where they were measured."""

    name: str
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def contest(
    contestants: Sequence[Contestant],
    rounds: int,
    device: torch.device,
    memory: bool = True,
    warm_up: int = 1,
    turn_seconds: float = ROUND,
) -> list[Result]:
    """Each in turn, in another order every round; before that, works of each that do not count, `warm_up` and more."""
    results = {c.name: Result(c.name) for c in contestants}
    repeats = 1
    for one in contestants:
        for _ in range(warm_up):
            one.work()
        if memory:
            results[one.name].peak = peak(one, device)
        repeats = max(repeats, round(turn_seconds / seconds(one.work, device)))
    for turn in range(rounds):
        first = turn % len(contestants)
        for one in [*contestants[first:], *contestants[:first]]:
            results[one.name].seconds.append(seconds(one.work, device, repeats))
    return list(results.values())


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Of one work, as the mean of several after each other, between which a device is not waited for."""
    wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - began) / repeats


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(one: Contestant, device: torch.device) -> int:
    """Bytes at the peak of one work, with what is kept between two; nobody else's."""
    storages = [tensor.untyped_storage() for tensor in one.kept()]
    kept = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        one.work()
        wait(device)
        return kept + torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        one.work()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return kept + most


def product_rate(precision: str, device: torch.device, size: int = 0) -> float:
    """FLOP/s of a matrix product of that precision, the best of ten, or of as many as two seconds hold."""
    size = size or (1024 if device.type == "cpu" else 8192)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds(lambda: a @ b, device)
    taken: list[float] = []
    while len(taken) < 10 and sum(taken) < 2:
        taken.append(seconds(lambda: a @ b, device))
    return 2 * size**3 / min(taken)


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """As Lightning's 32-true and bf16-mixed."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
