"""How fast a training is, logged while it trains: tokens or samples a second, and the share of the device's peak."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.throughput import Throughput as Rates
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import ThroughputMonitor
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn
from torch import Tensor

from tfzoo.layout import Layout
from tfzoo.tracking.loggers import MetricsLogger
from tfzoo.training.devices import peak_flops
from tfzoo.training.rehearsal import Precision, rehearse

TRAINING = RunningStage.TRAINING
LOGGED = {
    "samples_per_sec": "samples_per_second",
    "items_per_sec": "{counted}_per_second",
    "flops_per_sec": "flops_per_second",
    "mfu": "mfu",
}
"""Of what Lightning computes for a device, what is logged, and how it is called."""


class Throughput(ThroughputMonitor):
    """Logs, of the steps since it last did: samples and tokens a second, FLOP/s, and model FLOPs utilisation.

    Under `throughput/`, each for one device: `samples_per_second`; `tokens_per_second`, of those whose loss counts;
    `flops_per_second` and `mfu` (Chowdhery et al. 2022, appendix B), where the peak of the device is known, estimated
    from the operations of one batch. Not in metrics.csv, in which a run that was killed and resumed reads as one that
    never was, and times never do.

    Lightning's monitor waits for the device at every step, and takes a window of a hundred for granted. Here the device
    is waited for where something is logged, and the time of validations is left out.

    Args:
        device_flops: peak FLOP/s of a device in the precision of the training; none: as its maker says.
    """

    def __init__(self, device_flops: float | None = None) -> None:
        super().__init__(batch_size_fn=rows, window_size=2)
        if device_flops is not None and device_flops <= 0:
            raise ValueError(f"device_flops of Throughput must be above 0, not {device_flops}")
        self.device_flops = device_flops
        self.flops: float | None = None  # of a training step, for each number that a batch holds
        self.size = 0  # numbers of the batches since it last logged
        self.done = 0  # tokens or samples then
        self.left = 0.0  # when training was interrupted

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        peak = None
        with suppress(ValueError):  # of precisions that nobody can plan, speed is told and no FLOPs
            self.precision = Precision.of(trainer.precision)
            device = trainer.strategy.root_device
            peak = self.device_flops or known_peak(device, self.precision.compute)
        self.available_flops = peak  # type: ignore[assignment]
        self._throughputs[TRAINING] = Rates(peak, trainer.world_size, **self.kwargs)

    def _update(self, trainer: Any, pl_module: Any, batch: Any, iter_num: int) -> None:
        if trainer.state.stage != TRAINING:
            return
        self._samples[TRAINING] += rows(batch)
        self._batches[TRAINING] += 1
        self.size += numbers(batch)
        if not self._logs(trainer):
            return
        # Read from the device, which waits for it.
        done = int(pl_module.step_mean.done) // trainer.world_size
        # Lightning's window wants figures that grow, and no fewer tokens than samples.
        self.done = max(done, self.done + 1, self._samples[TRAINING])
        self._throughputs[TRAINING].update(
            time=time.perf_counter() - self._t0s[TRAINING],
            batches=self._batches[TRAINING],
            samples=self._samples[TRAINING],
            lengths=self.done,
            flops=self._flops(pl_module, batch),
        )
        self.size = 0

    def _flops(self, pl_module: Any, batch: Any) -> int | None:
        if not self.available_flops:
            return None
        if self.flops is None:
            try:
                self.flops = step_flops(pl_module, batch, self.precision) / numbers(batch)
            except (
                Exception
            ) as error:  # of whatever a task's loss does; no statistic is worth a training
                rank_zero_warn(f"no FLOPs are logged, for none can be counted: {error}")
                self.available_flops = None
                return None
        return round(self.flops * self.size)

    @staticmethod
    def _logs(trainer: Any) -> bool:
        ended = not trainer.fit_loop._should_accumulate()
        return ended and trainer._logger_connector.should_update_logs

    def _compute(self, trainer: Any, iter_num: int | None = None) -> None:
        if trainer.state.stage != TRAINING or not self._logs(trainer):
            return
        found = self._throughputs[TRAINING].compute()
        counted = trainer.lightning_module.counted
        metrics = {
            f"throughput/{name.format(counted=counted)}": found[f"device/{key}"]
            for key, name in LOGGED.items()
            if f"device/{key}" in found
        }
        for logger in trainer.loggers if metrics else ():
            if not isinstance(logger, MetricsLogger):
                logger.log_metrics(metrics, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    @rank_zero_only
    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()  # the steps still under way are of training
        self.left = time.perf_counter()

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if TRAINING in self._t0s:
            self._t0s[TRAINING] += time.perf_counter() - self.left

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Of training alone."""

    on_test_start = on_predict_start = on_validation_batch_end
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


def known_peak(device: torch.device, dtype: torch.dtype) -> float | None:
    """The peak FLOP/s of a device that is here, dense; None where no table has it, as for CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device).lower()
    # Lightning's table has the figures of these for two cards, or for sparse matrices.
    for chip in ("h200 nvl1", "h200 sxm1", "h100 nvl"):
        kind, form = chip[:4], chip[5:8]
        if kind in name and (form in name or form == "sxm"):
            fast = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
            return peak_flops(chip, "tfloat32" if fast else dtype)
    return get_available_flops(device, dtype)


def step_flops(task: Any, batch: Any, precision: Precision) -> int:
    """Floating-point operations of a training step, forward and back, rehearsed without contents."""
    with torch.device("meta"):
        twin = task.anew()
    return rehearse(twin, batch, precision).training_flops


def rows(batch: Any) -> int:
    """How many samples, or rows of them, a batch has; known without waiting for the device."""
    return len(next(_tensors(batch)))


def numbers(batch: Any) -> int:
    return sum(tensor.numel() for tensor in _tensors(batch))


def _tensors(batch: Any) -> Any:
    for value in vars(batch).values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Layout):
            yield value.positions
