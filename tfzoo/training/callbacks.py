"""What a run shows while it trains: samples, pictures, and a progress bar or, unwatched, a line for each validation."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rich
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_warn

from tfzoo.tracking.figures import Picture, save
from tfzoo.tracking.image_pictures import ImageGrid
from tfzoo.tracking.learning_curves import learning_curves
from tfzoo.tracking.loggers import log_figure, log_table
from tfzoo.tracking.runs import Run
from tfzoo.tracking.samples import write_table


class Show(Callback):
    """After a validation, writes samples and pictures to figures/ and to every logger.

    Samples after each. Pictures are drawn after the first validation and the last, and between them as often as
    `share` allows: those of the network, of one sample of middle size; those of the whole validation; and the curves
    that the run's metrics.csv holds, which are drawn anew in one file. Drawing leaves chance and weights alone.

    Args:
        rows: samples shown at most, drawn evenly from all that there are; the same ones each time, where every
            sample gives a row, so that progress can be seen.
        share: of the time that validations take, how much drawing may add; 0: nothing is drawn, samples are written
            all the same.

    Raises ValueError for a share below 0.
    """

    def __init__(self, rows: int = 16, share: float = 0.25) -> None:
        if share < 0:
            raise ValueError(f"share of Show must be at least 0, not {share}")
        self.limit, self.share = rows, share
        self.clock = Clock()
        self.curved = -1  # the step of the newest curves
        self._forget()

    def _forget(self) -> None:
        self.rows: list[list[Any]] = []
        self.batch: Any = None
        self.seen = 0
        self.chance = random.Random(0)
        self.drawing = False  # in the validation under way

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.start()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *_: Any,
    ) -> None:
        # Batches come by length: in the middle ones are samples of a size to look at.
        counts: Any = trainer.num_val_batches
        count = (counts if isinstance(counts, list) else [counts])[0]
        if self.batch is None or (count != float("inf") and batch_idx == count // 2):
            self.batch = batch
        for row in outputs["rows"] if outputs else ():
            # Reservoir sampling (Vitter 1985): batches come by length, and the first rows would all be long ones.
            self.seen += 1
            if len(self.rows) < self.limit:
                self.rows.append(row)
            elif (place := self.chance.randrange(self.seen)) < self.limit:
                self.rows[place] = row

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        rows, batch = self.rows, self.batch
        self._forget()
        if trainer.sanity_checking or batch is None or not trainer.is_global_zero:
            return
        if not pl_module.average.total.isfinite():
            return  # of a broken network there is nothing to see, and nothing to sample from
        self.clock.stop()
        rows = rows + pl_module.samples()
        are_images = bool(rows) and isinstance(rows[0][0], np.ndarray)
        if rows and not are_images:
            path = _figures(trainer) / f"samples-step{trainer.global_step:06d}.md"
            write_table(path, pl_module.columns, rows)
            log_table(trainer.loggers, "samples", pl_module.columns, rows, trainer.global_step)
        allowed = self.clock.spent <= self.share * self.clock.measured or _is_last(trainer)
        self.drawing = self.share > 0 and allowed
        if self.drawing:
            pictures = pl_module.pictures(batch)
            if are_images:
                captions = [f"{label}, read as {read} ({p:.0%})" for _, label, read, p in rows]
                pictures = [ImageGrid("misread", [row[0] for row in rows], captions), *pictures]
            self._draw(trainer, pictures)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.drawing:  # by now the validation's figures are pooled and logged
            self._draw(trainer, pl_module.summary())
            self._draw_curves(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and self.share > 0:
            self._draw_curves(trainer, pl_module)

    def _draw(self, trainer: Trainer, pictures: Iterable[Picture]) -> None:
        with self.clock.spending(), _no_matter():
            for picture in pictures:
                step = "" if picture.lasting else f"-step{trainer.global_step:06d}"
                path = _figures(trainer) / f"{picture.name}{step}.png"
                if not (picture.lasting and path.exists()):
                    save(picture.draw(), path)
                    log_figure(trainer.loggers, picture.name, path, trainer.global_step)

    def _draw_curves(self, trainer: Trainer, pl_module: Any) -> None:
        if self.curved == trainer.global_step:
            return
        with self.clock.spending(), _no_matter():
            curves = learning_curves(Run(Path(trainer.default_root_dir)), pl_module.best)
            if curves is not None:
                path = _figures(trainer) / f"{curves.name}.png"
                save(curves.draw(), path)
                log_figure(trainer.loggers, curves.name, path, trainer.global_step)
                self.curved = trainer.global_step


@contextmanager
def _no_matter() -> Iterator[None]:
    """No picture is worth a training, least of all one on several devices, which would wait for this one."""
    try:
        yield
    except OSError:
        raise  # the disk is full: nothing else could be saved either
    except Exception as error:
        rank_zero_warn(f"a picture could not be drawn: {type(error).__name__}: {error}")


class Clock:
    """Seconds that validations have taken, `measured`, and that drawing has `spent`."""

    def __init__(self) -> None:
        self.measured = self.spent = 0.0
        self.since = time.monotonic()

    def start(self) -> None:
        self.since = time.monotonic()

    def stop(self) -> None:
        self.measured += time.monotonic() - self.since

    @contextmanager
    def spending(self) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.spent += time.monotonic() - begin


def _figures(trainer: Trainer) -> Path:
    return Run(Path(trainer.default_root_dir)).figures


def _is_last(trainer: Trainer) -> bool:
    """Whether training ends with this validation, as far as its bounds say."""
    steps, epochs = trainer.max_steps, trainer.max_epochs
    if 0 < steps <= trainer.global_step:
        return True
    return epochs is not None and 0 < epochs <= trainer.current_epoch + 1


class Progress(RichProgressBar):
    """Lightning's bar on stderr, without the run's number, and without a last epoch where steps end the training."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"console_kwargs": {"stderr": True}, **settings})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "validate":
            self._stop_progress()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_end(trainer, pl_module)
        self._stop_progress()

    def _stop_progress(self) -> None:
        """Before Lightning prints the table of what was measured, which is for stdout."""
        super()._stop_progress()
        rich.reconfigure()

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_epochs not in (None, -1):
            return super()._get_train_description(current_epoch)
        return f"{f'Epoch {current_epoch}':{len(self.validation_description)}}"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class Lines(Callback):
    """In place of a progress bar where nobody watches, as in a job's log: a line for each validation."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not (fitting and trainer.is_global_zero):
            return
        metrics = {k: float(v) for k, v in sorted(trainer.progress_bar_metrics.items())}
        found = [f"{k} {v:.4g}" for k, v in metrics.items() if k.startswith(("train/", "val/"))]
        of = f" of {trainer.max_steps}" if trainer.max_steps > 0 else ""
        print(f"step {trainer.global_step}{of}: {', '.join(found)}", flush=True)
