"""The Lightning logger of Weights & Biases, which keeps all of a run in its folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

import tfzoo
from tfzoo import signals
from tfzoo.tracking.account import has_account
from tfzoo.tracking.readings import Figures, lower_is_better
from tfzoo.tracking.runs import Run
from tfzoo.tracking.settings import without_blanks
from tfzoo.tracking.sync_log import STEP

MEASURED = ("val/", "test/")
"""How the metrics begin whose best value counts."""


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
        log_model: whether checkpoints go to W&B as well: the best one in the end, or "all" that were the best when
            they were written. Those that are folders, sharded ones, do not.
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
        alone = not has_account() if offline is None else offline
        mode = os.environ.get("WANDB_MODE") or ("offline" if alone else None)
        super().__init__(save_dir=run.folder, project=project, **{"mode": mode, **said})
        if self._wandb_init.get("anonymous") is None:
            self._wandb_init.pop("anonymous", None)  # wandb warns of it, even where it is None
        self.offline = mode in ("offline", "dryrun")
        self.online = mode == "online" or (offline is False and not self.offline)  # insisted on
        if self.offline:
            # wandb reports errors over the network, even offline, unless told before its import.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.modes: dict[str, str] = {}  # of metrics, min or max, where their names do not tell
        self.best: dict[str, float] | None = (
            None  # of each measured metric, over all lives of the run
        )

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Give the run its whole configuration, nested as it is; best before the first metric.

        What `wandb.init` is given can be filtered by in every tool of W&B's; later additions not. What was not set is
        left out.
        """
        said = without_blanks(config)
        if self._experiment is None:
            self._wandb_init["config"] = said
        else:
            self._experiment.config.update(said, allow_val_change=True)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        super().log_hyperparams(without_blanks(dict(params)) if params else params)

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
        # By hand: see _summarize.
        for glob in MEASURED:
            run.define_metric(f"{glob}*", step_metric=STEP, summary="none")
        if self.offline:
            rank_zero_info(f"W&B is offline, in {run.settings.sync_dir}")
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        try:
            super().log_metrics(metrics, step)
            self._summarize({k: float(v) for k, v in metrics.items() if k.startswith(MEASURED)})
        except OSError:
            # A SIGTERM to all processes of a job ends W&B's own before the training has saved; metrics.csv has the row.
            if signals.received() is None:
                raise

    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """step: how many steps were done; shown beside the figures of the one that ended there."""
        super().log_image(key, images, _ended(step), **kwargs)

    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """step: as of `log_image`."""
        super().log_table(key, columns, data, dataframe, _ended(step))

    def _summarize(self, measured: Mapping[str, float]) -> None:
        """Keep each metric's last and best value in the run's summary, as W&B's own min and max are kept there.

        Those begin anew in a run that goes on, and would forget what was best before.
        """
        if not measured:
            return
        if self.best is None:
            before = Figures.read(Run(Path(str(self.save_dir))).metrics_file, self.modes)
            self.best = {name: value for name, (value, _) in before.best.items()}
        for name, value in measured.items():
            lower = lower_is_better(name, self.modes)
            among = [v for v in (self.best.get(name, value), value) if not math.isnan(v)]
            self.best[name] = (min if lower else max)(among, default=value)
            kept = {"min" if lower else "max": self.best[name], "last": value}
            self.experiment.summary.update({name: kept})

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        super().after_save_checkpoint(checkpoint_callback)
        if self._log_model:
            # Once more in the end: what is written in the background is not there yet.
            self._checkpoint_callbacks[id(checkpoint_callback)] = checkpoint_callback

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


def _ended(done: int | None) -> int | None:
    """The number, from 0, of the last step of so many."""
    return None if done is None else max(0, done - 1)


def _settings(offline: bool) -> Any:
    """The console is the user's: of what wandb prints, an online run's address is worth a line."""
    import wandb

    # Offline nothing is waited for but this machine, however busy it is.
    patience = 90.0 if offline else float(os.environ.get("WANDB_INIT_TIMEOUT") or 30)
    return wandb.Settings(
        console="off", quiet=True, silent=offline, git_root=_repository(), init_timeout=patience
    )


def _repository() -> str | None:
    """The git repository worked in, else that of this code: a run's folder may lie outside of both."""
    here = Path.cwd()
    code = Path(tfzoo.__file__).parents[1]
    return next((str(p) for p in (here, *here.parents, code) if (p / ".git").exists()), None)
