"""What a run shows while it trains: samples, pictures of attention, a progress bar."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from tfzoo.tracking.figures import ImageGrid, save
from tfzoo.tracking.loggers import log_figure, log_table
from tfzoo.tracking.samples import write_table


class Show(Callback):
    """After each validation, writes samples and attention pictures to figures/ and to every logger.

    Args:
        rows: samples shown at most, drawn evenly from all that there are; the same ones each time, where every
            sample gives a row, so that progress can be seen.
    """

    def __init__(self, rows: int = 16) -> None:
        self.limit = rows
        self._forget()

    def _forget(self) -> None:
        self.rows: list[list[Any]] = []
        self.batch: Any = None
        self.seen = 0
        self.chance = random.Random(0)

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
        step, folder = trainer.global_step, Path(trainer.default_root_dir) / "figures"
        rows = rows + pl_module.samples()
        if rows and isinstance(rows[0][0], np.ndarray):
            captions = [f"{label}, read as {read} ({p:.0%})" for _, label, read, p in rows]
            pictures = [ImageGrid("misread", [row[0] for row in rows], captions)]
        else:
            pictures = []
            if rows:
                write_table(folder / f"samples-step{step:06d}.md", pl_module.columns, rows)
                log_table(trainer.loggers, "samples", pl_module.columns, rows, step)
        for picture in pictures + pl_module.pictures(batch):
            path = folder / f"{picture.name}-step{step:06d}.png"
            save(picture.draw(), path)
            log_figure(trainer.loggers, picture.name, path, step)


class Progress(RichProgressBar):
    """Lightning's progress bar without the run's number, and without a last epoch where steps end the training."""

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_epochs not in (None, -1):
            return super()._get_train_description(current_epoch)
        return f"{f'Epoch {current_epoch}':{len(self.validation_description)}}"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
