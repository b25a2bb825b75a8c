"""Blocks compiled or recomputed: the same loss and gradients, the same names of weights, less memory."""

import copy
import shutil

import pytest
import torch
from small_tasks import BACKBONE, every_task, generation, language_batch

from tfzoo.backbone import units
from tfzoo.training.blocks import (
    CheckpointBlocks,
    CompileBlocks,
    Compiled,
    CompileLoss,
    Recomputed,
    blocks,
)

QUICK = {"backend": "aot_eager"}
WAYS = {
    "compiled": [CompileBlocks(**QUICK)],
    "with their loss": [CompileLoss(**QUICK)],
    "with their loss, recomputed": [CheckpointBlocks(), CompileLoss(**QUICK)],
    "recomputed": [CheckpointBlocks()],
    "both": [CompileBlocks(**QUICK), CheckpointBlocks()],
    "both, the other way round": [CheckpointBlocks(), CompileBlocks(**QUICK)],
}


def changed(task, callbacks):
    for callback in callbacks:
        for _ in range(2):  # a second training of a task changes nothing
            callback.setup(None, task, "fit")
    return task


def learned(task, batch):
    """Loss and gradients."""
    torch.manual_seed(0)
    loss = task.train().loss(batch).mean
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in task.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_they_learn_the_same(way):
    for (task, batch), (other, _) in zip(every_task(), every_task(), strict=True):
        names = list(task.state_dict())
        ours, theirs = learned(task, batch), learned(changed(other, WAYS[way]), batch)
        torch.testing.assert_close(ours, theirs)
        assert list(other.state_dict()) == names
        assert isinstance(other.loss, Compiled) == way.startswith("with their loss")


@pytest.mark.parametrize("way", WAYS)
def test_recomputing_lies_outside_of_compiling(way):
    task = changed(generation(), WAYS[way])
    for block in blocks(task):
        run = block.forward
        if isinstance(run, Recomputed):
            run = run.forward
        assert isinstance(run, Compiled) == (way.partition(",")[0] in ("compiled", "both"))
        assert not isinstance(run, Recomputed)


@pytest.mark.parametrize("way", ["compiled", "with their loss"])
def test_evaluation_and_decoding_are_not_compiled(way):
    task = changed(generation(), WAYS[way]).eval()
    for compiled in [task.loss] if way == "with their loss" else [b.forward for b in blocks(task)]:
        assert isinstance(compiled, Compiled)
        compiled.compiled = None  # would fail if called
    with torch.no_grad():
        task.loss(language_batch(task))
    assert task.samples()
    assert task.pictures(language_batch(task))


@pytest.mark.parametrize("way", ["both", "with their loss"])
def test_a_copy_computes_with_its_own_weights(way):
    task = changed(generation(), WAYS[way])
    other = copy.deepcopy(task)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    ours, theirs = (learned(one, language_batch(one))[0] for one in (task, other))
    assert ours != theirs
    assert theirs == pytest.approx(torch.tensor(float(task.facts.tokenizer.vocab_size)).log())


def test_only_the_inputs_of_recomputed_blocks_are_kept():
    def kept(task) -> int:
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            task.train().loss(language_batch(task))
        weights = {p.untyped_storage().data_ptr() for p in task.parameters()}
        return sum(size for place, size in sizes.items() if place not in weights)

    plain = kept(generation(backbone=BACKBONE))
    assert kept(changed(generation(backbone=BACKBONE), [CheckpointBlocks()])) < plain / 2


def test_recurrent_layers_are_recomputed_and_not_compiled():
    for (task, batch), (other, _) in zip(every_task("lstm"), every_task("lstm"), strict=True):
        ours, theirs = learned(task, batch), learned(changed(other, [CheckpointBlocks()]), batch)
        torch.testing.assert_close(ours, theirs)
        assert any(isinstance(layer.forward, Recomputed) for layer in units(other))
        for callback in (CompileBlocks(), CompileLoss()):
            with pytest.raises(ValueError, match="leave it out"):
                changed(task, [callback])


def test_one_program_is_not_made_of_what_is_shared_out_by_blocks():
    task = generation()
    task._device_mesh = object()  # as fsdp2 gives it
    with pytest.raises(ValueError, match="take CompileBlocks"):
        changed(task, [CompileLoss()])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++ with g++")
def test_inductor_learns_the_same():
    task, other = generation(), changed(generation(), [CompileBlocks(), CheckpointBlocks()])
    ours, theirs = (learned(one, language_batch(one)) for one in (task, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("callback", [CompileBlocks, CompileLoss])
def test_on_a_gpu_too(callback, dtype):
    for (task, batch), (other, _) in zip(every_task(), every_task(), strict=True):
        task, other, batch = task.cuda(), changed(other, [callback()]).cuda(), batch.to("cuda")
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            ours, theirs = learned(task, batch), learned(other, batch)
        torch.testing.assert_close(ours[0], theirs[0], rtol=2e-2, atol=2e-2)
