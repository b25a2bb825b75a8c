"""Lightning loggers that keep all of a run in its folder: metrics.csv and Weights & Biases."""

from __future__ import annotations

import io
import netrc
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from tfzoo import signals
from tfzoo.tracking.metrics import MetricsFile
from tfzoo.tracking.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


class WandbLogger(LightningWandbLogger):
    """Weights & Biases in the run's folder, offline unless there is someone to send it as.

    Args:
        save_dir: the run's folder; its last two names are the experiment, W&B's group, and the id.
        project: W&B's project.
        offline: whether to write to the folder alone. None: offline unless WANDB_API_KEY or
            ~/.netrc says who you are and the server answers. WANDB_MODE overrules it.
        entity: the user or team whose project it is.
        tags: words to find the run by.
        notes: a longer word on it.
        job_type: what kind of job it is, within its group.
        log_model: whether checkpoints go to W&B as well: the best ones, or "all".
        kwargs: what else Lightning's WandbLogger or `wandb.init` takes.
    """

    def __init__(
        self,
        save_dir: str | Path = ".",
        project: str = "tfzoo",
        offline: bool | None = None,
        entity: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        job_type: str | None = None,
        log_model: Literal["all"] | bool = False,
        **kwargs: Any,
    ) -> None:
        run = Run(Path(save_dir).absolute())
        # All experiments share a project, in which W&B merges runs of equal id: both names make it.
        said = {
            "id": re.sub(r"[^\w.-]", "-", f"{run.experiment}-{run.id}"),
            "name": f"{run.experiment}/{run.id}",
            "group": run.experiment,
            "entity": entity,
            "tags": tags and list(tags),
            "notes": notes,
            "job_type": job_type,
            "log_model": log_model,
        } | {key: value for key, value in kwargs.items() if value is not None}
        # Lightning's own `offline` would set WANDB_MODE for every later run of the process.
        mode = os.environ.get("WANDB_MODE") or ("offline" if _is_offline(offline) else None)
        super().__init__(save_dir=run.folder, project=project, **{"mode": mode, **said})
        if self._wandb_init.get("anonymous") is None:
            self._wandb_init.pop("anonymous", None)  # wandb warns of it, even where it is None
        self.offline = mode in ("offline", "dryrun")
        self.online = mode == "online" or (offline is False and not self.offline)  # insisted on
        if self.offline:
            # wandb reports errors over the network, even offline, unless told before its import.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Give the run its whole configuration, nested as it is; best before the first metric.

        What `wandb.init` is given can be filtered by in every tool of W&B's; later additions not.
        """
        if self._experiment is None:
            self._wandb_init["config"] = dict(config)
        else:
            self._experiment.config.update(dict(config), allow_val_change=True)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is not None or getattr(self, "_attach_id", None) is not None:
            return super().experiment
        import wandb

        self._prepare()
        try:
            run = super().experiment
        except wandb.errors.Error as error:
            # A node that cannot reach the server must train all the same, if nobody insisted.
            if self.online or not isinstance(error, wandb.errors.CommError):
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"W&B cannot be used ({reason}): run `wandb login`, or set offline to true"
                ) from error
            wandb.teardown()  # whose process still holds the run's id
            self._wandb_init |= {"mode": "offline", "settings": _settings(offline=True)}
            self.offline = True
            run = super().experiment
        if self.offline:
            rank_zero_info(f"W&B is offline, in {run.settings.sync_dir}")
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        try:
            super().log_metrics(metrics, step)
        except OSError:
            # A SIGTERM to all processes of a job ends W&B's own before the training has saved; metrics.csv has the row.
            if signals.received() is None:
                raise

    def _prepare(self) -> None:
        import wandb

        if wandb.run is not None and wandb.run.id != self._id:
            wandb.run.finish()  # an earlier run of this process: Lightning would write into it
        folder = Path(str(self.save_dir)) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        # Tables wait in the data folder until they are uploaded: they must travel with the run.
        for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
            if os.environ.get(variable) in (None, _PLACED.get(variable)):
                os.environ[variable] = _PLACED[variable] = str(folder / name)
        self._wandb_init.setdefault("settings", _settings(self.offline))


_PLACED: dict[str, str] = {}
"""W&B's folders as the last run of this process set them; what the user set is left alone."""


def _settings(offline: bool) -> Any:
    """The console is the user's: of what wandb prints, an online run's address is worth a line."""
    import wandb

    # Offline nothing is waited for but this machine, however busy it is.
    patience = 90.0 if offline else float(os.environ.get("WANDB_INIT_TIMEOUT") or 30)
    return wandb.Settings(
        console="off", quiet=True, silent=offline, git_root=_repository(), init_timeout=patience
    )


def _repository() -> str | None:
    """The git repository worked in, for the commit: a run's folder may lie outside of it."""
    here = Path.cwd()
    return next((str(p) for p in (here, *here.parents) if (p / ".git").exists()), None)


def _is_offline(asked: bool | None) -> bool:
    """Whether to stay offline: looks for credentials where wandb does, without call or prompt."""
    if asked is not None:
        return asked
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return False
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    for place in filter(None, (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")):
        try:
            return netrc.netrc(Path(place).expanduser()).authenticators(host) is None
        except (OSError, netrc.NetrcParseError):
            continue
    return True


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
