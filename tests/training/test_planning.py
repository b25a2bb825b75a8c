"""A rehearsed step costs what the real one does: the same operations counted, the same memory measured."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_tasks import BACKBONE, TEXTS, every_task, generation, text_batch, text_classification
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tfzoo.backbone import TransformerConfig
from tfzoo.backbone.attention import Attention, explicit
from tfzoo.data.batching import LanguageBatch
from tfzoo.layout import Layout
from tfzoo.training.accounting import checkpointed
from tfzoo.training.devices import memory_size, peak_flops
from tfzoo.training.optim import decay_groups
from tfzoo.training.planning import Job, planned
from tfzoo.training.rehearsal import Precision, Rehearsal, rehearse

FULL = Precision.of("32-true")
TASKS = ["Translation", "TextClassification", "Generation", "ImageClassification"]


def named(name: str) -> tuple[Any, Any]:
    return next((task, batch) for task, batch in every_task() if type(task).__name__ == name)


def language(dropout: float = 0.0) -> tuple[Any, LanguageBatch]:
    """A network large enough for its memory to mean something, and 8 windows of 128 tokens."""
    config = TransformerConfig(
        dim=128, depth=4, heads=4, hidden=512, dropout=dropout, max_length=128
    )
    tokens = torch.zeros(8, 128, dtype=torch.long)
    return generation(backbone=config), LanguageBatch(tokens, Layout.full(8, 128), tokens.clone())


@pytest.mark.parametrize("name", TASKS)
def test_a_plan_counts_the_operations_of_a_real_step(name: str) -> None:
    task, batch = named(name)
    plan = planned(task, batch, FULL, Job())
    for part in task.modules():
        if isinstance(part, Attention):
            part.kernel = explicit  # two products forward and four back; the counter knows no fused one of a CPU
    with FlopCounterMode(display=False) as flops:
        task.train().loss(batch).mean.backward()
    # To the last one: nothing is estimated.
    assert plan.training_flops * plan.batch == pytest.approx(flops.get_total_flops(), rel=1e-9)
    assert 0.3 < plan.forward_flops / plan.training_flops < 0.4
    assert plan.parameters == sum(p.numel() for p in task.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("network", ["rnn", "lstm", "lstm-attention"])
def test_a_plan_counts_a_recurrence_as_if_all_steps_had_one_before(network: str) -> None:
    for task, batch in every_task(network):
        plan = planned(task, batch, FULL, Job())
        for part in task.modules():
            if isinstance(part, Attention):
                part.kernel = explicit
        # oneDNN's recurrence is one operation, whose products nobody sees.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as flops:
            task.train().loss(batch).mean.backward()
        counted = flops.get_total_flops()
        assert counted <= plan.training_flops * plan.batch <= 1.05 * counted
        assert plan.parameters == sum(p.numel() for p in task.parameters())


def test_packed_rows_are_planned_as_the_sequences_that_they_hold() -> None:
    """As many steps as the longest has: a recurrence goes through all of them side by side."""
    task = text_classification(backbone=replace(BACKBONE, network="lstm"))
    alone, packed = (
        planned(task, text_batch(task, rows), FULL, Job())
        for rows in ([[text] for text in TEXTS], [TEXTS])
    )
    assert packed.training_flops == pytest.approx(alone.training_flops, rel=1e-9)


def test_a_task_without_contents_gives_the_same_plan_and_stays_as_it_is() -> None:
    task, batch = named("Generation")
    before = {name: value.clone() for name, value in task.state_dict().items()}
    plan = planned(task, batch, FULL, Job())
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert planned(task.to("meta"), batch, FULL, Job()) == plan


def test_masked_language_modelling_is_planned_with_the_places_expected() -> None:
    def flops(selected: float) -> float:
        return planned(task, batch, FULL, Job(), selected).training_flops

    task = text_classification(token_dropout=0.5, masked_lm=1.0)
    batch = text_batch(task)
    places = batch.tokens.numel()
    vocabulary, dim = task.network.embedding.weight.shape
    more = (flops(0.5) - flops(0.0)) * planned(task, batch, FULL, Job(), 0.5).batch
    assert more == pytest.approx(3 * 2 * round(places / 2) * vocabulary * dim)


def measured(task: Any, batch: Any, precision: Precision, again: bool, accumulates: bool) -> int:
    """Bytes allocated by CPU kernels at the peak of a step, weights and the optimiser's state included."""
    optimizer = task.train().optimizer(decay_groups(task))

    def step() -> None:
        with checkpointed(task) if again else nullcontext():
            with precision.context():
                loss = task.loss(batch).mean
            if not accumulates:
                optimizer.zero_grad()
            loss.backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    kept = [*task.parameters(), *task.buffers()]
    kept += [value for state in optimizer.state.values() for value in state.values()]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
        step()  # with the gradients of the one before
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak + sum(value.nbytes for value in kept)


def peak(rehearsal: Rehearsal) -> int:
    steady = rehearsal.weights + rehearsal.gradients + rehearsal.optimizer
    return steady + rehearsal.activations


@pytest.mark.parametrize("accumulates", [False, True], ids=["one batch", "accumulated"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize(
    "precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)]
)
def test_the_peak_is_what_a_cpu_allocates(precision: str, again: bool, accumulates: bool) -> None:
    task, batch = language()
    of = Precision.of(precision)
    rehearsal = rehearse(task, batch, of, checkpointing=again, accumulates=accumulates, gpu=False)
    real = measured(task, batch, of, again, accumulates)
    assert peak(rehearsal) == pytest.approx(real, rel=0.1)
    # Not because all that never changes outweighs the rest.
    steady = rehearsal.weights + rehearsal.gradients + rehearsal.optimizer
    assert rehearsal.activations == pytest.approx(real - steady, rel=0.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_peak_is_what_a_gpu_allocates(precision: str, again: bool) -> None:
    task, batch = language(dropout=0.1)
    of = Precision.of(precision)
    tokens = batch.tokens.repeat(8, 1)
    batch = LanguageBatch(tokens, Layout.full(64, 128), tokens.clone())
    rehearsal = rehearse(task, batch, of, checkpointing=again)
    gc.collect()
    before = torch.cuda.memory_allocated()  # of other tests
    task, batch = task.cuda().train(), batch.to("cuda")
    optimizer = task.optimizer(decay_groups(task))
    mixed = of.weights != of.compute
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        with checkpointed(task) if again else nullcontext():
            with torch.autocast("cuda", of.compute, enabled=mixed):
                loss = task.loss(batch).mean
            optimizer.zero_grad()
            loss.backward()
        del loss
        optimizer.step()
    workspace = 64 << 20  # of cuBLAS, at most
    real = torch.cuda.max_memory_allocated() - before
    assert 0.9 * (real - workspace) <= peak(rehearsal) <= 1.1 * real


def test_checkpointing_and_half_precision_save_memory() -> None:
    task, batch = language(dropout=0.1)
    kept = rehearse(task, batch, FULL)
    assert rehearse(task, batch, FULL, checkpointing=True).activations < 0.6 * kept.activations
    half = rehearse(task, batch, Precision.of("bf16-true"))
    assert half.gradients * 2 == kept.gradients
    # A GPU's dropout keeps a byte where a CPU's keeps a float.
    assert kept.activations < rehearse(task, batch, FULL, gpu=False).activations


def test_the_state_is_that_of_the_optimiser() -> None:
    task, batch = named("Generation")
    size = sum(p.nbytes for p in task.parameters())
    adam = rehearse(task, batch, FULL)
    assert 2 * size <= adam.optimizer < 2.01 * size
    assert adam.gradients == size
    task.optimizer = lambda groups: torch.optim.SGD(groups, lr=0.1)
    assert rehearse(task, batch, FULL).optimizer == 0


def test_what_is_sharded_is_divided_by_the_devices() -> None:
    task, batch = language()
    ddp, _, fsdp, again = planned(task, batch, FULL, Job(devices=8)).memory
    assert [row.strategy for row in (ddp, fsdp)] == ["DDP", "FSDP"]
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(fsdp, part) == -(-getattr(ddp, part) // 8)
    assert ddp.exchange == ddp.gradients
    block, *_ = (sum(p.nbytes for p in block.parameters()) for block in task.network.decoder.blocks)
    rest = sum(p.nbytes for p in task.parameters()) - 4 * block
    assert fsdp.exchange == again.exchange == 3 * block + 2 * rest
    alone = planned(task, batch, FULL, Job()).memory
    assert [row.exchange for row in alone] == [0, 0]


@pytest.mark.slow
def test_gradients_that_are_views_are_held_once() -> None:
    """Both peaks are known: all gradients beside the buckets in the optimiser's step, or activations and buckets."""
    task, batch = language()
    once, again = (planned(task, batch, FULL, Job(2, views=v)).memory[0] for v in (False, True))
    activations = planned(task, batch, FULL, Job()).memory[0].activations
    assert (once.exchange, again.exchange) == (once.gradients, 0)
    assert once.activations == activations
    assert once.total - once.gradients <= again.total <= once.total
    tokens = batch.tokens[:1, :8]
    small = LanguageBatch(tokens, Layout.full(1, 8), tokens.clone())
    once, again = (planned(task, small, FULL, Job(2, views=v)).memory[0] for v in (False, True))
    assert again.total == once.total - once.gradients
    # FSDP and a device alone know no such buckets.
    assert planned(task, batch, FULL, Job(views=True)).memory == planned(task, batch, FULL, Job()).memory  # fmt: skip


def test_time_follows_from_operations() -> None:
    task, batch = named("Generation")
    plan = planned(task, batch, FULL, Job(devices=4, accumulate=2, steps=10))
    assert plan.total == 10 * plan.step == 10 * 4 * 2 * batch.tokens.numel()
    seconds = plan.seconds(1e12, 0.5)
    assert seconds == pytest.approx(plan.total * plan.training_flops / (4 * 1e12 * 0.5))
    assert planned(task, batch, FULL, Job()).seconds(1e12, 0.5) is None


def test_a_loss_that_reads_its_tensors_is_told() -> None:
    task, batch = named("Generation")
    loss = task.loss
    task.loss = lambda batch: loss(batch) if loss(batch).total > 0 else None
    with pytest.raises(ValueError, match="Generation cannot be planned: its loss depends on what"):
        rehearse(task, batch, FULL)


def test_peaks_of_devices() -> None:
    assert peak_flops("NVIDIA H100 SXM", torch.bfloat16) == 989.4e12
    assert peak_flops("h200 sxm1", torch.bfloat16) == 1e15  # dense
    with pytest.raises(ValueError, match="no device 'h100 smx' is known; nearest are h100 sxm"):
        peak_flops("h100 smx", torch.bfloat16)
    with pytest.raises(ValueError, match="v100 sxm has no peak for bfloat16, only for"):
        peak_flops("v100 sxm", torch.bfloat16)


def test_sizes_and_precisions_that_are_none() -> None:
    assert memory_size("80GB") == 80 * 10**9
    assert memory_size("24576MiB") == 24 << 30
    assert memory_size("1.5 GiB") == 3 << 29
    for text in ("80", "80 gigabytes", "-1GB", "0GB", "iB"):
        with pytest.raises(ValueError, match="a memory size is written like 80GB"):
            memory_size(text)
    with pytest.raises(ValueError, match="precision transformer-engine cannot be planned"):
        Precision.of("transformer-engine")
