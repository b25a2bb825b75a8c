"""A training step rehearsed on tensors without contents: what it computes, and what it holds in memory at most.

Shapes, dtypes and lifetimes are those of a real step, so that nothing about a network has to be known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.fabric.connector import _convert_precision_to_unified_args
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves

from tfzoo.layout import Layout
from tfzoo.training.accounting import GPU, Held, checkpointed, gpu_kernels, model_flops
from tfzoo.training.optim import decay_groups

DTYPES = {"64": torch.float64, "32": torch.float32, "16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Precision:
    """What weights are stored in, and what matrices are multiplied in; where they differ, by autocast."""

    weights: torch.dtype
    compute: torch.dtype

    @staticmethod
    def of(name: Any) -> Precision:
        """By Lightning's name. Raises ValueError for one that cannot be planned."""
        asked = str(_convert_precision_to_unified_args(name) or "32-true")
        width, _, kind = asked.partition("-")
        if width not in DTYPES or kind not in ("true", "mixed"):
            raise ValueError(
                f"precision {name} cannot be planned: choose "
                "32-true, 16-mixed, bf16-mixed, 16-true, bf16-true or 64-true"
            )
        return Precision(torch.float32 if kind == "mixed" else DTYPES[width], DTYPES[width])

    @contextmanager
    def context(self) -> Iterator[None]:
        """As Lightning surrounds a forward pass."""
        if self.weights != self.compute:
            with torch.autocast("cpu", self.compute):
                yield
            return
        usual = torch.get_default_dtype()
        torch.set_default_dtype(self.weights)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)


@dataclass(frozen=True)
class Rehearsal:
    """What a step costs one device that has the whole network to itself, in bytes and floating-point operations.

    weights: buffers included.
    gradients, optimizer: as they are between two steps.
    activations: what is held beside those at the peak of the step, temporaries and the batch included.
    sharded_activations: the same where gradients are spread over so many devices that they do not count.
    stepping: what the optimiser makes and drops in its step.
    forward_flops, training_flops: of matrix products, in the second those of the backward pass too. Nothing counts
        twice for being recomputed, and causal attention counts as if it saw everything: model FLOPs (Chowdhery et al.
        2022, appendix B). Counted only where nothing is computed twice.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    sharded_activations: int
    stepping: int
    forward_flops: int = 0
    training_flops: int = 0


def rehearse(
    task: Any,
    batch: Any,
    precision: Precision,
    *,
    checkpointing: bool = False,
    accumulates: bool = False,
    selected: float = 0.0,
    gpu: bool = True,
) -> Rehearsal:
    """A training step of a task, on whatever device (meta too) and left as it is, with a batch.

    Args:
        task: has the `loss` of a batch, and makes an `optimizer` of parameter groups.
        batch: of the shapes to be planned for.
        precision: of the step.
        checkpointing: each block keeps its inputs alone, and computes the rest once more in the backward pass.
        accumulates: the gradients of earlier batches are held through the whole step, not its forward pass alone.
        selected: the share of its places that a boolean mask picks out, whose contents nobody knows here.
        gpu: by the kernels of a GPU; else by a CPU's.
    """
    # Facts are shared: a vocabulary is slow to copy.
    task = deepcopy(task, {id(task.facts): task.facts} if hasattr(task, "facts") else {})
    with FakeTensorMode(allow_non_fake_inputs=True):
        task = _emptied(task, precision.weights).train()
        batch = batch.to("cpu", copy=True)
        parameters = [p for p in task.parameters() if p.requires_grad]
        optimizer = _stepped(task, parameters, gpu)
        held, flops = Held(), model_flops()
        weights = held.hold([*task.parameters(), *task.buffers()])
        gradients = sum(map(held.hold_gradient, parameters))
        kept = held.hold(v for v in tree_leaves(list(optimizer.state.values())) if _is_tensor(v))
        held.hold(_tensors(batch))
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(held.hear)
        kernels = gpu_kernels(task) if gpu else nullcontext()
        mode = partial(GPU, selected) if gpu else nullcontext
        # The counter would hold on to what checkpointing lets go.
        twice = checkpointed(task, mode) if checkpointing else flops
        with kernels, mode(), held:
            with twice:
                with precision.context(), _told(task):
                    loss = task.loss(batch).mean
                forward = flops.get_total_flops()
                if not accumulates:
                    optimizer.zero_grad()  # as late as Lightning does
                loss.backward()
                del loss
            peak, without_gradients = held.peak, held.peak_without_gradients
            held.forget_peaks()
            optimizer.step()
        steady = weights + gradients + kept
        return Rehearsal(
            weights=weights,
            gradients=gradients,
            optimizer=kept,
            activations=max(peak, held.peak) - steady,
            sharded_activations=without_gradients - weights - kept,
            stepping=held.peak - steady,
            forward_flops=forward,
            training_flops=flops.get_total_flops(),
        )


@contextmanager
def _told(task: Any) -> Iterator[None]:
    """Raises ValueError where a loss asks what a tensor holds."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise ValueError(
            f"{type(task).__name__} cannot be planned: its loss depends on what tensors hold ({error.func})"
        ) from error


def _emptied(task: Any, dtype: torch.dtype) -> Any:
    """The task with tensors that have shapes alone, floating-point ones the dtype given."""
    return task._apply(
        lambda t: torch.empty(t.shape, dtype=dtype if t.is_floating_point() else t.dtype)
    )


def _stepped(task: Any, parameters: list[nn.Parameter], gpu: bool) -> torch.optim.Optimizer:
    """The task's optimiser after a step: its state is made, and so are all gradients."""
    optimizer = task.optimizer(decay_groups(task))
    for group in optimizer.param_groups:
        if gpu and group.get("foreach", False) is None:
            group["foreach"] = True  # what torch chooses on a GPU
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    return optimizer


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _tensors(batch: Any) -> Iterator[Tensor]:
    """All tensors of a batch, its layouts' too."""
    for value in vars(batch).values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Layout) or hasattr(value, "to"):
            yield from _tensors(value)
