"""A trainer as a SLURM job has been given its tasks: one a device."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment

from tfzoo.tracking.job import is_batch


def as_job(settings: dict[str, Any]) -> None:
    """Let a trainer's settings follow SLURM where they leave it open: `devices: auto`, `num_nodes: 1`.

    Raises ValueError where tasks are not given by node, leave GPUs idle, or are not the devices asked for: told
    before any of them opens a run's folder.
    """
    if not _has_tasks():
        return
    tasks, nodes = _count("SLURM_NTASKS"), _count("SLURM_NNODES")
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ValueError(
            f"SLURM gave this job {tasks} tasks without saying how many on each node: give sbatch "
            "--ntasks-per-node in place of --ntasks"
        )
    plugins = settings["plugins"]
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        # Whether and when to requeue is ours to say (see `Stop`).
        settings["plugins"] = [*plugins, SLURMEnvironment(auto_requeue=False)]
    if settings["num_nodes"] == 1:
        settings["num_nodes"] = nodes
    if settings["devices"] == "auto":
        settings["devices"] = tasks // nodes
        on_gpu = settings["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        gpus = torch.cuda.device_count()
        if on_gpu and gpus > tasks // nodes:
            raise ValueError(
                f"each node has {gpus} GPUs for this job but {tasks // nodes} of its tasks: one task a GPU, give "
                f"sbatch --ntasks-per-node={gpus}, or say --trainer.devices"
            )
    devices = settings["devices"]
    # "1" of a command line too; of other forms only the trainer knows how many are meant.
    if str(devices).isdecimal() and int(devices) > 0:
        _check_tasks(int(devices), settings["num_nodes"])


def check_tasks(trainer: Trainer) -> None:
    """Raises ValueError where SLURM's tasks are not the trainer's devices: each would train for itself."""
    if _has_tasks():
        _check_tasks(trainer.num_devices, trainer.num_nodes)


def _check_tasks(devices: int, on_nodes: int) -> None:
    tasks, nodes = _count("SLURM_NTASKS"), _count("SLURM_NNODES")
    if devices * on_nodes != tasks:
        raise ValueError(
            f"SLURM started {tasks} tasks on {nodes} nodes, but the trainer is for {devices} devices on "
            f"{on_nodes}: leave trainer.devices at auto, or set it to {tasks // nodes}, with "
            f"trainer.num_nodes {nodes}"
        )


def _has_tasks() -> bool:
    return is_batch() and "SLURM_NTASKS" in os.environ


def _count(name: str) -> int:
    return int(os.environ.get(name) or 1)
