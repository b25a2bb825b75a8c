"""Blocks or the whole loss compiled, or blocks computed again for their backward pass; weights keep their names.

All of it concerns training steps alone: evaluation and decoding run as they always do, and give the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal, Self

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tfzoo.backbone import Block, units

Function = Callable[..., Any]


class Compiled:
    """A function of modules, compiled at its first call that is to be differentiated."""

    def __init__(self, function: Function, settings: dict[str, Any]) -> None:
        self.function, self.settings = function, settings
        self.compiled: Function = torch.compile(function, **settings)

    def __call__(self, *args: Any) -> Any:
        run = self.compiled if torch.is_grad_enabled() else self.function
        return run(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copied function would still be that of the original's weights.
        return type(self)(deepcopy(self.function, memo), self.settings)


class Recomputed:
    """A block's forward function, of which only the inputs are kept for the backward pass."""

    def __init__(self, forward: Function) -> None:
        self.forward = forward

    def __call__(self, *args: Any) -> Tensor:
        if torch.is_grad_enabled():
            return checkpoint(self.forward, *args, use_reentrant=False)
        return self.forward(*args)


class _Compile(Callback):
    def __init__(
        self,
        mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
        | None = None,
        dynamic: bool | None = None,
        backend: str = "inductor",
    ) -> None:
        self.settings = {"mode": mode, "dynamic": dynamic, "backend": backend}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if not blocks(pl_module):
            name = type(self).__name__
            raise ValueError(
                f"{name} compiles a Transformer, and this network is none: leave it out"
            )
        import torch._dynamo

        # Padded, packed and dense batches, with and without a memory, have programs of their own.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        self.compile(pl_module)

    def compile(self, task: Any) -> None:
        raise NotImplementedError

    def compiled(self, function: Function) -> Function:
        return function if isinstance(function, Compiled) else Compiled(function, self.settings)


class CompileBlocks(_Compile):
    """Compiles every block with `torch.compile`: `--trainer.callbacks+=CompileBlocks`.

    Blocks of a kind are compiled once, whatever their number.

    Args:
        mode: of torch.compile; none: default.
        dynamic: whether one program serves all lengths; none: from the second length on.
        backend: of torch.compile.
    """

    def compile(self, task: Any) -> None:
        for block in blocks(task):
            forward: Any = block.forward
            if isinstance(forward, Recomputed):
                forward.forward = self.compiled(forward.forward)
            else:
                block.forward = self.compiled(forward)  # type: ignore[method-assign]


class CompileLoss(_Compile):
    """Compiles the network and its loss as one program with `torch.compile`: `--trainer.callbacks+=CompileLoss`.

    Faster steps than with `CompileBlocks`, and less memory for the logits of a large vocabulary, after a longer wait
    for the first one. Not for fsdp2, which gathers the weights of one block at a time.

    Args:
        mode: of torch.compile; none: default.
        dynamic: whether one program serves all lengths; none: from the second length on.
        backend: of torch.compile.
    """

    def compile(self, task: Any) -> None:
        if task.device_mesh is not None:
            raise ValueError(
                "CompileLoss makes one program of all blocks, and fsdp2 gathers the weights of one at a time: "
                "take CompileBlocks"
            )
        task.loss = self.compiled(task.loss)


class CheckpointBlocks(Callback):
    """Activation checkpointing of every block (Chen et al. 2016): `--trainer.callbacks+=CheckpointBlocks`.

    Memory for the activations of one block, or recurrent layer, instead of all, for a third more computation.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        for block in units(pl_module):
            if not isinstance(block.forward, Recomputed):
                block.forward = Recomputed(block.forward)


def blocks(module: nn.Module) -> list[Block]:
    """The Transformer blocks of a module."""
    return [part for part in module.modules() if isinstance(part, Block)]
