"""A training that is asked to make room saves where it stands, and ends; a measurement just ends."""

from __future__ import annotations

import time
from signal import SIGUSR2
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from tfzoo import signals
from tfzoo.training.agreement import Agreement
from tfzoo.training.last import Last


class Stop(Callback):
    """Heeds SIGUSR2, SIGTERM and Ctrl-C: a checkpoint by `Last` at the next step's end, then the end of the process.

    That step is the same on all devices, be it that only one of them got the signal. Where no step ends in time, in
    a long validation say, the newest checkpoint must do. SIGUSR2 ends with exit code 75, which asks to be started
    again (slurm/train.sbatch does), SIGTERM with 143.

    Args:
        patience: seconds from the signal after which no step is waited for.
    """

    def __init__(self, patience: float = 60.0) -> None:
        if patience < 0:
            raise ValueError(f"patience of Stop must be at least 0 seconds, not {patience}")
        self.patience = patience
        self.agreement = Agreement()
        self.asked = False  # by any process, as all of them know
        self.late = False  # some signal is older than its patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning's own handler of SIGTERM would talk to the other processes in the middle of anything; and it asks
        # in every step, on the devices, whether the first process got one.
        signals.listen()
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]
        self.agreement.begin()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self._leave(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._ask()
        if self.asked and (last := _last(trainer)):
            last.wanted = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._ask()
            if self.late:
                self._leave(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.agreement.end()  # a training at its end needs no stop

    def _ask(self) -> None:
        request = signals.received()
        late = request is not None and time.monotonic() - request.time >= self.patience
        asked, late = self.agreement.told([request is not None, late])
        self.asked, self.late = self.asked or asked, self.late or late

    def _leave(self, trainer: Trainer) -> None:
        """Ends the process where that has been agreed, and this step is saved or never will be."""
        if not self.asked:
            return
        last = _last(trainer)
        saved = last is not None and last.settle(trainer)
        if not (saved or self.late or last is None):
            return
        self.agreement.end()
        # Those who were only told of it leave the same way.
        request = signals.received() or signals.Request(SIGUSR2, time.monotonic())
        how = "is saved" if saved else "is not saved: the newest checkpoint is of an earlier one"
        told = f"stopped; step {trainer.global_step} {how}"
        if request.signal != SIGUSR2:  # which is followed by another start without anybody's doing
            told += f"; tfzoo resume {trainer.default_root_dir} goes on"
        raise signals.Stopped(request, told)


class Listen(Callback):
    """A measurement ends at once when it is asked to, unless a training before it, of a demo, has made us patient.

    Lightning's handler would first talk to the other processes, in the midst of anything.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals.listen()

    on_test_start = on_predict_start = on_validation_start


def _last(trainer: Any) -> Last | None:
    found = (callback for callback in trainer.callbacks if isinstance(callback, Last))
    return None if trainer.fast_dev_run else next(found, None)


def _nothing() -> None:
    """Where Lightning would exchange whether a SIGTERM came."""
