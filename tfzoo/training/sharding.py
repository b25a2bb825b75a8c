"""Weights, gradients and optimiser state shared out over all devices (FSDP2, Zhao et al. 2023)."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from tfzoo.backbone import units


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every block or recurrent layer, and what is left as one unit more; a second call changes nothing.

    A block's weights are gathered for its forward pass, and again for its backward pass.
    """
    if isinstance(network, FSDPModule):
        return
    parts = [fully_shard(part, mesh=mesh) for part in (*units(network), network)]
    # Left to itself each part fetches what was called before it since the last backward pass. Decoding counts too, and
    # differs between devices, which would then wait for each other for ever: say what comes next.
    for before, part in pairwise([parts[-1], *parts]):
        part.set_modules_to_backward_prefetch([before])


def gather(network: nn.Module) -> None:
    """Let every device hold all weights until `release`: decoding takes as many steps on each as its rows need."""
    for part in _parts(network):
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()


def release(network: nn.Module) -> None:
    """Let every device hold its part of the weights again."""
    for part in _parts(network):
        part.reshard()
        # The outermost part is the first that backward needs: it stays as it is.
        part.set_reshard_after_forward(part is not network, recurse=False)


def _parts(network: nn.Module) -> list[FSDPModule]:
    return [module for module in network.modules() if isinstance(module, FSDPModule)]


class FullySharded(ModelParallelStrategy):
    """Lightning's ModelParallelStrategy over however many devices there are, with checkpoints that move.

    `--trainer.strategy fsdp2`. A checkpoint of one device, of DDP, or of another number of shards can be gone on with,
    and the other way round.

    Args:
        save_distributed_checkpoint: whether a checkpoint is a folder, to which every device writes its part; else it is
            one file as everywhere, gathered by the first process.
        process_group_backend: of torch.distributed; none: nccl for CUDA, gloo for CPUs.
        timeout: of collectives.
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        # Weights gathered in inference mode could not be trained.
        fit = trainer.fit_loop.epoch_loop.val_loop
        for loop in (fit, trainer.validate_loop, trainer.test_loop, trainer.predict_loop):
            loop.inference_mode = False
        super().setup(trainer)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        path = Path(self.broadcast(checkpoint_path))
        if path.is_dir():
            return super().load_checkpoint(path, weights_only)
        # Lightning would number the parameters of a whole optimiser's state as the network has them, not as it does.
        assert self.model is not None
        checkpoint = self.checkpoint_io.load_checkpoint(path, "cpu")
        self.lightning_module.check_weights(checkpoint["state_dict"])  # type: ignore[operator, union-attr]
        # A tied weight has two names, and is shared out under the first.
        names = {name for name, _ in self.model.named_parameters()}
        weights = {name: w for name, w in checkpoint["state_dict"].items() if name in names}
        whole = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.model, weights, options=whole)
        for optimizer, state in zip(
            self.optimizers, checkpoint.get("optimizer_states", []), strict=False
        ):
            state = _named(state, optimizer, self.model)
            set_optimizer_state_dict(self.model, optimizer, state, options=whole)
        return checkpoint


StrategyRegistry.register("fsdp2", FullySharded, "weights and optimiser sharded over all devices")


def _named(state: dict[str, Any], optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """An optimiser's state with the names of parameters in place of their numbers."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ours = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    theirs = [group["params"] for group in state["param_groups"]]
    name_of = {
        number: name
        for group, numbers in zip(ours, theirs, strict=True)
        for name, number in zip(group, numbers, strict=True)
    }
    return {
        "state": {name_of[number]: values for number, values in state["state"].items()},
        "param_groups": [
            {**group, "params": [name_of[number] for number in group["params"]]}
            for group in state["param_groups"]
        ],
    }
