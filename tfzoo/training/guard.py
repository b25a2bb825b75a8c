"""Steps whose loss or gradients are not finite are left out, and a training that has only such ones is stopped."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


class Guard(Callback):
    """Leaves out an optimiser step that would destroy the weights, and says so.

    Weights and optimiser stay as they were before it, so that every checkpoint is of a sound state.
    `train/skipped` counts such steps. All devices decide alike.

    Args:
        patience: so many of them in a row end the training; the newest checkpoint is from before.
        spike: leave out also a step whose gradient norm is above so many times its running mean, as in the training of
            PaLM (Chowdhery et al. 2022, section 5.1); none: only what is not finite.
        memory: how many steps that running mean remembers, about.
    """

    def __init__(self, patience: int = 10, spike: float | None = None, memory: int = 100) -> None:
        for name, value in (("patience", patience), ("spike", spike), ("memory", memory)):
            if value is not None and value < 1:
                raise ValueError(f"{name} of Guard must be at least 1, not {value}")
        self.patience, self.spike, self.memory = patience, spike, memory
        self.skipped = 0  # steps in all
        self.row = 0  # of them, the latest without a sound one in between
        self.seen, self.mean = 0, 0.0  # sound steps, and the running mean of their gradient norms

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raises ValueError where gradients would be judged and clipped while a scaler's scale is still in them."""
        scaling = any(getattr(o, "_step_supports_amp_scaling", False) for o in trainer.optimizers)
        if scaling and _scaler(trainer) is not None:
            raise ValueError(
                "a fused optimizer takes the scale of 16-mixed gradients away only in its step, after they are "
                "clipped: set the optimizer's fused to false, or train in bf16-mixed"
            )

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: Any, optimizer: Optimizer
    ) -> None:
        pl_module.gradient_norm = gradient_norm(optimizer)  # clipping need not compute it again
        latest = pl_module.step_mean.latest
        norm_here = _whole(pl_module.gradient_norm).to(latest.device)
        loss, norm = torch.stack([latest, norm_here]).tolist()  # the device is waited for once
        scaler = _scaler(trainer)
        if isfinite(loss) and not isfinite(norm) and scaler and scaler.get_scale() >= 1:
            return  # it tries how large half-precision gradients may be, and leaves out the step itself
        if isfinite(loss) and isfinite(norm) and not self._is_spike(norm):
            self.row = 0
            self.seen += 1
            self.mean += (norm - self.mean) / min(self.seen, self.memory)
        else:
            self._skip(trainer, optimizer, loss, norm)
        if self.skipped:
            pl_module.log("train/skipped", float(self.skipped))

    def _is_spike(self, norm: float) -> bool:
        # A mean of few steps says little, least of all at the start of a warmup.
        return self.spike is not None and self.seen >= self.memory and norm > self.spike * self.mean

    def _skip(self, trainer: Trainer, optimizer: Optimizer, loss: float, norm: float) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # which every optimiser passes over
        self.skipped += 1
        self.row += 1
        said = f"loss {loss:.4g}, gradient norm {norm:.4g}"
        if self.row >= self.patience:
            raise ValueError(
                f"{self.row} steps in a row could not be taken, the last of them step {trainer.global_step} ({said}): "
                "weights and checkpoints are as before them; lower the learning rate, warm up longer, or use a wider "
                "precision"
            )
        rank_zero_warn(f"step {trainer.global_step} is left out: {said}")

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "row": self.row, "seen": self.seen, "mean": self.mean}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.row = state_dict["skipped"], state_dict["row"]
        self.seen, self.mean = state_dict["seen"], state_dict["mean"]


def is_doubtful(trainer: Trainer) -> bool:
    """Whether the latest step could not be taken: the weights themselves may be the cause, and no good to keep."""
    return any(isinstance(callback, Guard) and callback.row for callback in trainer.callbacks)  # type: ignore[attr-defined]


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """The norm of all gradients together, scalar; a DTensor where they are shared out."""
    gradients = [
        p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    return torch.nn.utils.get_total_norm(gradients)


def _scaler(trainer: Trainer) -> Any:
    """What scales half-precision gradients; None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value
