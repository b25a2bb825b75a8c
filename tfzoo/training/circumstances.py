"""What decides a result beside the config: devices, precision, threads, determinism, the seed."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Trainer


def circumstances(trainer: Trainer, seed: int | None) -> dict[str, Any]:
    """Of a trainer that is about to train: values that JSON knows."""
    device = trainer.strategy.root_device
    on_gpu = device.type == "cuda"
    return {
        "seed": seed,
        "devices": {
            "kind": torch.cuda.get_device_name(device) if on_gpu else device.type,
            "on_each_node": trainer.num_devices,
            "nodes": trainer.num_nodes,
            "world_size": trainer.world_size,
            "strategy": type(trainer.strategy).__name__,
            "cuda": torch.version.cuda if on_gpu else None,
        },
        "precision": str(trainer.precision),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark if on_gpu else None,
    }
