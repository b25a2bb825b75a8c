"""Lightning loggers that keep all of a run in its folder: metrics.csv, and beside it Weights & Biases."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_only

from tfzoo.tracking.metrics import MetricsFile
from tfzoo.tracking.runs import Run
from tfzoo.tracking.wandb_logger import WandbLogger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MetricsLogger", "WandbLogger", "log_figure", "log_table"]


class MetricsLogger(CSVLogger):
    """metrics.csv in the run's folder, to which a resumed run appends.

    First among a trainer's loggers, it puts checkpoints and config.yaml into that folder too.

    Args:
        save_dir: the run's folder.
    """

    def __init__(self, save_dir: str | Path = ".") -> None:
        super().__init__(save_dir, name="", version="")

    @property
    def root_dir(self) -> str:
        return self.save_dir

    @property
    def log_dir(self) -> str:
        return self.save_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            file = MetricsFile(Run(Path(self.save_dir)).metrics_file)
            self._experiment = file  # type: ignore[assignment]
        return self._experiment

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget what was logged from `step` on: a resumed run comes there again."""
        if Run(Path(self.save_dir)).metrics_file.exists():
            self.experiment.rewind(step)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """config.yaml beside metrics.csv says it all."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            self.experiment.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiment": None}  # an open file stays in its process


def log_table(
    loggers: Iterable[Logger],
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    step: int | None = None,
) -> None:
    """A table of samples to every logger that takes one.

    A cell is text, a number, or an image, (h, w) or (h, w, 3) in 0..1.
    """
    for logger in loggers:
        cell = _wandb_cell if isinstance(logger, LightningWandbLogger) else lambda value: value
        if hasattr(logger, "log_table"):
            data = [[cell(value) for value in row] for row in rows]
            logger.log_table(name, columns=list(columns), data=data, step=step)


def _wandb_cell(value: Any) -> Any:
    if not hasattr(value, "shape"):
        return value
    import wandb

    # As bytes: floating point wandb would stretch to the full range, which is another picture.
    return wandb.Image((value.clip(0, 1) * 255).round().astype("uint8"))


def log_figure(
    loggers: Iterable[Logger],
    name: str,
    figure: Figure | str | os.PathLike[str],
    step: int | None = None,
) -> None:
    """A picture, drawn or on disk, to every logger that takes images."""
    takers = [logger for logger in loggers if hasattr(logger, "log_image")]
    if not takers:
        return
    from PIL import Image

    from tfzoo.tracking.figures import png

    drawn = isinstance(figure, str | os.PathLike)
    with Image.open(figure if drawn else io.BytesIO(png(figure))) as image:  # type: ignore[arg-type]
        image.load()
    for logger in takers:
        logger.log_image(name, [image], step=step)
