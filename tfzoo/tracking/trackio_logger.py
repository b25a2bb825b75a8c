"""A Lightning logger for trackio, the dashboard in the browser that needs no account and no network.

trackio's own client is passed by. It keeps one folder a process, asks a server for the user's name where there is a
Hugging Face token, starts threads, prints, and locks one database for all runs. A line in the run's own folder (see
tfzoo/tracking/records.py) is lost by no kill, waits for nothing, and can be rewound as metrics.csv is.
"""

from __future__ import annotations

import os
import re
import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from tfzoo.tracking.records import Records, folder_of
from tfzoo.tracking.runs import Run


def is_installed() -> bool:
    """Whether the extra `dashboard` is there, found without importing it."""
    return find_spec("trackio") is not None


class TrackioLogger(Logger):
    """Metrics, pictures and tables for `tfzoo dashboard`, in the run's folder.

    Args:
        save_dir: the run's folder; its last two names are the experiment, trackio's group, and the id.
        project: trackio's project; all of its runs can be laid over each other.
    """

    def __init__(self, save_dir: str | Path = ".", project: str = "tfzoo") -> None:
        super().__init__()
        self._run = Run(Path(save_dir).absolute())
        self._records = Records(self._run, project)
        self._config: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return self._records.project

    @property
    def version(self) -> str:
        return f"{self._run.experiment}/{self._run.id}"

    @property
    def save_dir(self) -> str:
        return str(self._run.folder)

    @property
    def log_dir(self) -> str:
        return str(folder_of(self._run))

    @property
    @rank_zero_experiment
    def experiment(self) -> Records:
        """The run's records; `experiment.log({...}, step)` adds one."""
        return self._records

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Give the run its whole configuration, nested as it is; it is written with the next record."""
        self._config.update(config)
        self._records.config = self._config

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.set_config(vars(params) if isinstance(params, Namespace) else params or {})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """step: the trainer's global step."""
        self.experiment.log(metrics, step or 0)

    @rank_zero_only
    def log_image(
        self, key: str, images: Sequence[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Pictures: of PIL, arrays of bytes, or paths. One that lies in the run's folder is not written again."""
        captions = kwargs.get("caption") or [None] * len(images)
        shown = [
            self._image(f"{key}-{place}" if place else key, image, step or 0, caption)
            for place, (image, caption) in enumerate(zip(images, captions, strict=True))
        ]
        named = {f"{key} {place}" if place else key: image for place, image in enumerate(shown)}
        self.experiment.log(named, step or 0)

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: Sequence[str],
        data: Sequence[Sequence[Any]],
        step: int | None = None,
    ) -> None:
        """A cell is text, a number, or an image, (h, w) or (h, w, 3) in 0..1."""
        rows = []
        for number, row in enumerate(data):
            named = zip(columns, row, strict=True)
            rows.append(
                {c: self._cell(f"{key}-{number}-{c}", cell, step or 0) for c, cell in named}
            )
        self.experiment.log({key: {"_type": "trackio.table", "_value": rows}}, step or 0)

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget what was logged from `step` on: a resumed run comes there again."""
        self.experiment.rewind(step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.experiment.close()

    def _cell(self, name: str, value: Any, step: int) -> Any:
        if not hasattr(value, "shape") or not value.shape:
            return value
        pixels = (np.asarray(value).clip(0, 1) * 255).round().astype("uint8")
        return self._image(name, pixels, step, None)

    def _image(self, name: str, image: Any, step: int, caption: str | None) -> Any:
        from PIL import Image

        if hasattr(image, "shape"):
            image = Image.fromarray(image)
        there = Path(image if isinstance(image, str | os.PathLike) else _file_of(image))
        if not self._stays(there, step):
            there = self._copied(re.sub(r"[^\w.-]", "-", f"{name}-step{step:06d}.png"), image)
        place = there.relative_to(self._run.folder).as_posix()
        return {"_type": "trackio.image", "file_path": place, "caption": caption}

    def _stays(self, file: Path, step: int) -> bool:
        """Whether it is a picture of this step in the run's figures/, which no later one replaces."""
        ours = file.is_file() and file.is_relative_to(self._run.figures)
        return ours and file.stem.endswith(f"-step{step:06d}")

    def _copied(self, name: str, image: Any) -> Path:
        path = folder_of(self._run) / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, str | os.PathLike):
            shutil.copyfile(image, path)
        else:
            image.save(path)
        return path


def _file_of(image: Any) -> str:
    """The file that PIL read a picture from."""
    return str(Path(getattr(image, "filename", None) or os.devnull).absolute())
