"""Weights, gradients and optimiser state shared out over the devices of a mesh (FSDP2, Zhao et al. 2023)."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from tfzoo.backbone import Block


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every block, and what is left of the network as one unit more; a second call changes nothing.

    Once gathered for a forward pass weights stay whole until the backward pass has used them. Evaluation thus gathers
    them with its first forward pass, after which decoding may take as many steps on each device as its rows need.
    """
    if isinstance(network, FSDPModule):
        return
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    parts = [
        fully_shard(part, mesh=mesh, reshard_after_forward=False) for part in (*blocks, network)
    ]
    for part in parts:
        # Left to itself each part fetches what was called before it since the last backward pass. Decoding counts too,
        # and differs between devices, which would then wait for each other for ever: name one that is always there.
        part.set_modules_to_backward_prefetch([parts[-1]])
