"""The newest checkpoints of a training, from which it goes on as if nothing had happened."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from tfzoo.tracking.runs import numbered, remove, sweep
from tfzoo.training.background import BackgroundCheckpointIO
from tfzoo.training.guard import is_doubtful
from tfzoo.training.intervals import is_at_bound
from tfzoo.training.moved import at_home
from tfzoo.training.saved_loops import Mend, after_validation, end_epoch

DRAFT = ".{}.draft"
"""A checkpoint that is not to be found yet."""


class Last(Checkpoint):
    """The state of training, to go on from: `step-00001200.ckpt`, the newest few.

    It is saved after every validation, at the last step, and in between as often as asked. Never while gradients are
    half accumulated, which no checkpoint holds; nor before a validation that is due, which a resumed run would skip.
    It gets its name only when the step is logged, so that no figure can be missing before it. After a step that could
    not be taken nothing is saved (see `Guard`).

    Args:
        dirpath: the run's folder of checkpoints; none: `checkpoints` in the trainer's folder.
        every_n_steps: optimiser steps between two of them; none: no such bound.
        every_minutes: minutes that a run killed without warning loses at most; none: no such bound.
        keep: how many are kept. An older one goes when a newer one is whole.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        every_n_steps: int | None = None,
        every_minutes: float | None = 10.0,
        keep: int = 2,
    ) -> None:
        for name, value in (
            ("every_n_steps", every_n_steps),
            ("every_minutes", every_minutes),
            ("keep", keep),
        ):
            if value is not None and value <= 0:
                raise ValueError(f"{name} of Last must be above 0, not {value}")
        self.dirpath = Path(dirpath) if dirpath is not None else None
        self.every_n_steps, self.every_minutes, self.keep = every_n_steps, every_minutes, keep
        self.saved = time.monotonic()  # when the newest was
        self.step = -1  # of the newest
        self.wanted = False  # at the next step's end, whatever else is said
        self.waits = False  # for the gradients of the step that is being accumulated
        self.unnamed: list[Path] = []
        self.logged: list[Path] = []  # those of them whose step is
        self.mends: tuple[Mend, ...] = ()  # of what is being saved

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.dirpath is None:
            self.dirpath = Path(trainer.default_root_dir) / "checkpoints"
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        loop = trainer.fit_loop
        if trainer.fast_dev_run or loop.epoch_loop._should_accumulate():
            return
        if loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            return
        if not (self.waits or self._is_time(trainer)):
            return
        if not loop.epoch_loop._num_ready_batches_reached():
            self._save(trainer)
        elif trainer.check_val_every_n_epoch is None or self._is_last_step(trainer):
            self._save(trainer, end_epoch)
        else:
            self.waits = True

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for mend in self.mends:
            mend(checkpoint["loops"]["fit_loop"])

    def on_validation_end(self, trainer: Any, pl_module: LightningModule) -> None:
        fits = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if trainer.fast_dev_run or not fits:
            return
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate():
            self.waits = True
        else:
            self._save(trainer, *after_validation(trainer))
            self._name(trainer)

    def _is_last_step(self, trainer: Trainer) -> bool:
        return trainer.should_stop or is_at_bound(trainer)

    def _is_time(self, trainer: Trainer) -> bool:
        if self.wanted or self._is_last_step(trainer):
            return True
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0:
            return True
        if self.every_minutes is None:
            return False
        late = time.monotonic() - self.saved >= 60 * self.every_minutes
        # Clocks differ: the first process decides for all, asked only now and then.
        if trainer.world_size > 1:
            late = step % 10 == 0 and trainer.strategy.broadcast(late)
        return late

    def _save(self, trainer: Trainer, *mends: Mend) -> None:
        assert self.dirpath is not None
        if is_doubtful(trainer):
            return
        self.waits = False
        self.step = trainer.global_step
        file = self.dirpath / f"step-{trainer.global_step:08d}.ckpt"
        self.mends = mends
        trainer.save_checkpoint(file.with_name(DRAFT.format(file.name)), weights_only=False)
        self.mends = ()
        self.unnamed.append(file)
        self.saved = time.monotonic()

    def settle(self, trainer: Trainer) -> bool:
        """Whether the step just logged is saved; if so, its checkpoint is on disk and has its name."""
        if self.step != trainer.global_step:
            return False
        trainer.strategy.checkpoint_io.teardown()  # what is still being written is waited for
        self._name(trainer)
        return True

    def _name(self, trainer: Trainer) -> None:
        """Give what was saved its name, and let older ones go."""
        self.logged = list(self.unnamed)
        if not self.unnamed or not trainer.is_global_zero:
            return
        assert self.dirpath is not None
        for file in list(self.unnamed):
            draft = file.with_name(DRAFT.format(file.name))
            if draft.exists():  # else it is still being written, in the background
                if file.is_dir():
                    remove(file)
                draft.replace(file)
                self.unnamed.remove(file)
        for old in numbered(self.dirpath)[self.keep :]:
            remove(old)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.dirpath is not None
        if trainer.is_global_zero:
            sweep(self.dirpath)  # of a run that was killed
            for draft in self.dirpath.glob(DRAFT.format("step-*.ckpt")):
                remove(draft)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
                state = states[callback.state_key] = at_home(states[callback.state_key], callback)
                if state.get("dirpath") == callback.dirpath:
                    callback.current_score = state.get("current_score")  # Lightning saves it only

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if isinstance(trainer.strategy.checkpoint_io, BackgroundCheckpointIO):
            trainer.strategy.checkpoint_io.check()
        self._name(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._name(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """What was saved in the background before something else went wrong is not lost."""
        with suppress(Exception):  # told by whoever tears the trainer down, or told already
            trainer.strategy.checkpoint_io.teardown()
        self.unnamed = list(self.logged)
        self._name(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        try:
            trainer.strategy.checkpoint_io.teardown()  # what is still being written is waited for
        finally:
            self._name(trainer)
