"""Lightning loggers that keep everything of a run in its folder: metrics.csv and Weights & Biases."""

from __future__ import annotations

import csv
import io
import netrc
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from tfzoo.tracking.runs import Run, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MetricsLogger(CSVLogger):
    """metrics.csv in the run's folder: a row per logged step, a column per metric, blank where a row has none.

    Every row is on its way to the disk when the call returns, so that a killed run keeps what it measured, and a
    resumed run appends. First among a trainer's loggers, it puts checkpoints and config.yaml into the run's folder too.

    Args:
        save_dir: the run's folder.
    """

    def __init__(self, save_dir: str | os.PathLike[str] = ".") -> None:
        super().__init__(save_dir, name="", version="")

    @property
    def root_dir(self) -> str:
        return self.save_dir

    @property
    def log_dir(self) -> str:
        return self.save_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsFile:
        if self._experiment is None:
            self._experiment = MetricsFile(Run(Path(self.save_dir)).metrics_file)  # type: ignore[assignment]
        return self._experiment  # type: ignore[return-value]

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """config.yaml beside metrics.csv says it all."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            self.experiment.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiment": None}  # an open file stays in its process


class MetricsFile:
    """A CSV file that grows by rows and, now and then, by a column.

    A row costs one write. A metric never seen before costs one rewriting of the file under the wider header, which
    happens a handful of times in a run: with the first training row, the first validation, the first test.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.file: io.TextIOBase | None = None
        self.rows = 0

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        row: dict[str, Any] = {"step": self.rows if step is None else step}
        row |= {key: v.item() if hasattr(v, "item") else v for key, v in metrics.items()}
        if self.file is None:
            self._open()
        if not row.keys() <= set(self.columns):
            self._widen([key for key in row if key not in self.columns])
        assert self.file is not None
        csv.writer(self.file).writerow([row.get(column, "") for column in self.columns])
        self.file.flush()
        self.rows += 1

    def save(self) -> None:
        """Every row is written as it comes."""

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file = None

    def _open(self) -> None:
        """Go on where the file ends, dropping a last line that a kill cut short."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            whole = self.path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end < len(whole):
                os.truncate(self.path, end)
            lines = whole[:end].decode().splitlines()
            self.columns = next(csv.reader(lines[:1]), [])
            self.rows = max(0, len(lines) - 1)
        self.file = self.path.open("a", newline="")

    def _widen(self, new: list[str]) -> None:
        self.close()
        columns, before = self.columns + new, []
        if self.columns:
            with self.path.open(newline="") as file:
                before = list(csv.reader(file))[1:]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows(row + [""] * (len(columns) - len(row)) for row in before)
        write_whole(self.path, text.getvalue().encode())
        self.columns = columns
        self.file = self.path.open("a", newline="")


class WandbLogger(LightningWandbLogger):
    """Weights & Biases in the run's folder, under the run's own id: offline unless there is someone to send it as.

    Args:
        save_dir: the run's folder; its last two names are the experiment, which is W&B's group, and the id.
        project: W&B's project.
        offline: whether to write to the folder alone. None: offline unless WANDB_API_KEY or ~/.netrc says who you are.
            The variable WANDB_MODE overrules it.
        kwargs: anything else that Lightning's WandbLogger or `wandb.init` takes: entity, tags, notes, job_type.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] = ".",
        project: str = "tfzoo",
        offline: bool | None = None,
        **kwargs: Any,
    ) -> None:
        run = Run(Path(save_dir).absolute())
        # One project holds all experiments, and W&B merges runs of equal id: both names make it.
        names = {
            "id": re.sub(r"[^\w.-]", "-", f"{run.experiment}-{run.id}"),
            "name": f"{run.experiment}/{run.id}",
            "group": run.experiment,
        }
        # Lightning's own `offline` sets WANDB_MODE for every later run of the process; `mode` is for this one.
        mode = os.environ.get("WANDB_MODE") or ("offline" if _is_offline(offline) else None)
        super().__init__(save_dir=run.folder, project=project, mode=mode, **{**names, **kwargs})
        self.offline = mode in ("offline", "dryrun")
        if self.offline:
            # wandb reports its own errors over the network, offline or not, unless told before it is imported.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Give the whole configuration, nested as it is, to the run; best before its first metric."""
        if self._experiment is None:
            self._wandb_init["config"] = dict(config)
        else:
            self._experiment.config.update(dict(config), allow_val_change=True)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None and getattr(self, "_attach_id", None) is None:
            self._prepare()
            run = super().experiment
            if self.offline:
                rank_zero_info(f"W&B, offline: {run.settings.sync_dir}")
            return run
        return super().experiment

    def _prepare(self) -> None:
        import wandb

        if wandb.run is not None and wandb.run.id != self._id:
            wandb.run.finish()  # an earlier run of this process, which Lightning would write into
        folder = Path(self._wandb_init["dir"]) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        # Tables wait in the data folder until they are uploaded: they must travel with the run.
        for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
            if os.environ.get(variable) in (None, _PLACED.get(variable)):
                os.environ[variable] = _PLACED[variable] = str(folder / name)
        self._wandb_init.setdefault(
            "settings",
            # The console is the user's; of what wandb prints only an online run's address is worth a line.
            wandb.Settings(console="off", quiet=True, silent=self.offline, git_root=_git_root()),
        )


_PLACED: dict[str, str] = {}
"""W&B's folders as the last run of this process set them; what the user set is left alone."""


def _git_root() -> str | None:
    """The repository worked in: a run folder may lie outside of it."""
    here = Path.cwd()
    return next((str(p) for p in (here, *here.parents) if (p / ".git").exists()), None)


def _is_offline(asked: bool | None) -> bool:
    """Whether to stay offline; looks for credentials where wandb does, without a call or a prompt."""
    if asked is not None:
        return asked
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return False
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    for file in filter(None, (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")):
        try:
            known = netrc.netrc(Path(file).expanduser())
        except (OSError, netrc.NetrcParseError):
            continue
        return known.authenticators(host) is None
    return True


def log_table(
    loggers: Iterable[Logger],
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    step: int | None = None,
) -> None:
    """A table of samples to every logger that takes one. Cells: text, numbers, or images (h, w[, 3]) in 0..1."""
    for logger in loggers:
        if isinstance(logger, LightningWandbLogger):
            import wandb

            data = [
                [wandb.Image(_pixels(c)) if hasattr(c, "shape") else c for c in r] for r in rows
            ]
            logger.log_table(name, columns=list(columns), data=data, step=step)
        elif hasattr(logger, "log_table"):
            logger.log_table(name, columns=list(columns), data=[list(r) for r in rows], step=step)


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

    source = Path(figure) if isinstance(figure, str | os.PathLike) else io.BytesIO(png(figure))
    with Image.open(source) as image:
        image.load()
    for logger in takers:
        logger.log_image(name, [image], step=step)


def _pixels(image: Any) -> Any:
    """Bytes: wandb stretches floating point to the full range, which would change the picture."""
    return (image.clip(0, 1) * 255).round().astype("uint8")
