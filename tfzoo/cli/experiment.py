"""Experiments through Lightning's command line: fit, validate, test, predict.

What the house adds to LightningCLI: facts linked from data to task, one folder for everything a run leaves, loggers and
checkpoints by default, and mistakes told in one line.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from shutil import rmtree
from typing import Any

import torch.distributed as dist
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import tfzoo
import tfzoo.data
import tfzoo.tasks
import tfzoo.training
from tfzoo import signals
from tfzoo.cli.arguments import names_a_task, prepared, value_of
from tfzoo.cli.begin import Begin
from tfzoo.cli.outfit import LOGGERS, callbacks_of, listed, loggers_of, watched
from tfzoo.cli.parser import WholeKeys
from tfzoo.cli.quiet import quieten
from tfzoo.cli.report import tell_done, tell_end
from tfzoo.data import TaskData
from tfzoo.tasks import Task
from tfzoo.tracking import provenance
from tfzoo.tracking.job import is_batch, is_first
from tfzoo.tracking.learning_curves import Baselines
from tfzoo.tracking.lock import Lock, check_free
from tfzoo.tracking.runs import (
    Run,
    check_writable,
    new_run,
    newest_checkpoint,
    run_holding,
    run_of,
    write_whole,
)
from tfzoo.tracking.settings import without_places
from tfzoo.training.callbacks import Show
from tfzoo.training.checkpoint import newest_sound, whole
from tfzoo.training.cluster import as_job, check_tasks
from tfzoo.training.intervals import check_counts, set_intervals
from tfzoo.training.others import EndOthers
from tfzoo.training.stopping import Listen

TRAINER_DEFAULTS: dict[str, Any] = {
    "logger": LOGGERS,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    # Batches by token budget know their rank themselves.
    "use_distributed_sampler": False,
}
NO_AVERAGES = (
    "weights that are sharded cannot be averaged: leave the EMA callback out with --trainer.callbacks null, or train "
    "with configs/trainer/ddp.yaml"
)


class ExperimentCLI(LightningCLI):
    """`tfzoo fit -c experiments/... [-c configs/...] [--key value ...]` and its siblings."""

    run: Run | None = None
    is_new = False  # whether this command made the run's folder
    lock: Lock | None = None  # on it

    def __init__(self, arguments: list[str], baselines: Baselines | None = None) -> None:
        """baselines: by metric, what the learning curves are to be seen beside."""
        quieten()
        self._asked = arguments[0]
        # A class that has been imported can be named in a config without its module.
        for package in (tfzoo.data, tfzoo.tasks, tfzoo.training):
            for module in iter_modules(package.__path__):
                import_module(f"{package.__name__}.{module.name}")
        try:
            super().__init__(
                Task,
                TaskData,
                save_config_callback=Begin,
                save_config_kwargs={
                    "save_to_log_dir": False,
                    "command": arguments,
                    "baselines": baselines or {},
                },
                trainer_defaults=TRAINER_DEFAULTS,
                seed_everything_default=1,
                parser_class=WholeKeys,
                parser_kwargs={"prog": "tfzoo"},
                subclass_mode_model=True,
                subclass_mode_data=True,
                args=prepared(arguments),
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
            how = "finished"
        except signals.Stopped:
            how = "stopped"
            raise
        except Exception as error:
            how = "failed"
            self._tell_way_on(error)
            raise
        except BaseException as error:
            how = "interrupted"
            if isinstance(error.__context__, KeyboardInterrupt):
                error = KeyboardInterrupt()  # Lightning makes it the exit code 1
            self._tell_way_on(error)
            raise error from None
        finally:
            self._leave(how)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is asked for: Lightning would make the parsers of all four, which takes most of the start."""
        return {self._asked: super().subcommands()[self._asked]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            type=str | None,
            default=None,
            help="name of the run's folder under --runs",
        )
        parser.add_argument("--runs", type=str, default="runs", help="where all runs are kept")
        parser.add_argument(
            "--run_id",
            type=str | None,
            default=None,
            help="name of this run; none: time and chance",
        )
        parser.add_argument(
            "--batches_per_step",
            type=int | None,
            default=None,
            help="batches of an optimiser step over all devices; accumulate_grad_batches follows, and an interval "
            "between validations counts batches of all devices",
        )
        parser.link_arguments("data", "model.init_args.facts", self.facts, apply_on="instantiate")

    def facts(self, data: TaskData) -> Any:
        """What the task is told of the data."""
        return data.facts

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Lightning would let settings saved in the checkpoint beat explicit flags; what is said here stands."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Opens the run's folder only now, when data and model have been built without complaint."""
        settings = self._get(self.config_init, "trainer")
        settings["plugins"] = whole(listed(settings.get("plugins")))
        check_counts(settings)
        as_job(settings)
        if self.subcommand != "fit":
            if self._get(self.config, "ckpt_path") is None:
                raise ValueError(
                    f"{self.subcommand} needs --ckpt_path: without one there is only an untrained network"
                )
            settings["logger"] = False
            # Measuring saves and shows nothing, whatever the config of its run did.
            callbacks = listed(settings.get("callbacks"))
            kept = [c for c in callbacks if not isinstance(c, Checkpoint | Show)]
            settings["callbacks"] = watched([EndOthers(), Listen(), *kept], settings)
            trainer = super().instantiate_trainer(enable_checkpointing=False, **kwargs)
            check_tasks(trainer)
            return trainer
        self.run = self._open_run()
        settings["default_root_dir"] = str(self.run.folder)
        settings["logger"] = loggers_of(
            self.run,
            settings["logger"],
            settings=self._get(self.config, "trainer")["logger"],
            best=self.model.best,
            config=cache(self._compared),
        )
        callbacks = listed(settings.get("callbacks"))
        settings["callbacks"] = watched(
            callbacks_of(self.run, callbacks, self.model.best, settings["logger"]), settings
        )
        trainer = super().instantiate_trainer(**kwargs)
        check_tasks(trainer)
        set_intervals(trainer, self._get(self.config, "batches_per_step"))
        averages = any(isinstance(c, WeightAveraging) for c in settings["callbacks"])
        if averages and isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(NO_AVERAGES)
        return trainer

    def _open_run(self) -> Run:
        checkpoint = self._get(self.config, "ckpt_path")
        resumed = run_holding(checkpoint)
        if resumed is not None:
            check_writable(resumed)
            self._take(resumed)
            return resumed
        run = new_run(
            Path(self._get(self.config, "runs")),
            self._get(self.config, "experiment") or self._experiment(),
            self._get(self.config, "run_id"),
        )
        self.is_new = not any(run.folder.iterdir())
        self._take(run)
        named = self._get(self.config, "run_id") is not None
        if checkpoint == "last" and not named and self.is_new and not is_batch():
            raise ValueError(
                "--ckpt_path last goes on with a run that is named by --run_id; tfzoo resume takes its folder"
            )
        if provenance.goes_on(run, asked=checkpoint == "last", named=named):
            # A requeued job goes on where its run stands; the first one finds nothing there yet.
            # A checkpoint of somewhere else, to begin from, counts until there is one of its own.
            elsewhere = None if checkpoint == "last" else checkpoint
            newest = newest_sound(run) or elsewhere
            for config in (self.config, self.config_init):
                config[self.subcommand]["ckpt_path"] = newest and str(newest)
        return run

    def _take(self, run: Run) -> None:
        if is_first():
            lock = Lock(run)
            lock.take()
            self.lock = lock

    def before_fit(self) -> None:
        signals.be_patient()

    def _tell_way_on(self, error: BaseException) -> None:
        """To what a training died of, a full disk or a second Ctrl-C say, it is added how to go on."""
        if self.run is not None and self._has_begun() and (newest := newest_checkpoint(self.run)):
            error.add_note(f"tfzoo resume {self.run.folder} goes on from {newest.name}")

    @rank_zero_only
    def _leave(self, how: str) -> None:
        """Notes how the training ended, and lets go of the run's folder; removes that of one that did not begin."""
        if self.run is None:
            return
        if self._has_begun():
            provenance.end(self.run, how, self.trainer.global_step)
        if self.lock is not None:
            self.lock.release()
        if self.is_new and not self.run.started():
            rmtree(self.run.folder, ignore_errors=True)

    def _has_begun(self) -> bool:
        callbacks = self.trainer.callbacks if hasattr(self, "trainer") else []  # type: ignore[attr-defined]
        return any(isinstance(callback, Begin) and callback.began for callback in callbacks)

    def _experiment(self) -> str:
        """The name of the first config file that names a task; of the task itself where none does."""
        for file in self._get(self.config, "config") or []:
            if file is not None and names_a_task(str(file)):
                return Path(str(file)).stem
        return self._get(self.config, "model")["class_path"].rpartition(".")[2].lower()

    def _compared(self) -> dict[str, Any]:
        """What runs are compared by: neither files and folders, nor who is told."""
        assert self.run is not None
        self._dump_config()
        config = without_places(self.config_dump) | {"experiment": self.run.experiment}
        config["model"]["init_args"].pop("facts", None)
        return yaml.safe_load(yaml.safe_dump(config))

    def after_fit(self) -> None:
        assert self.run is not None
        if self._has_begun() or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            tell_end(self.run, self.trainer)
        else:
            tell_done(self.run, self.trainer)

    def after_validate(self) -> None:
        self._keep_metrics("validation.json")

    def after_test(self) -> None:
        self._keep_metrics("test.json")

    @rank_zero_only
    def _keep_metrics(self, name: str) -> None:
        """Beside the checkpoint that was measured, in its run's folder."""
        run = self._measured_run()
        if run is not None:
            metrics = {k: float(v) for k, v in self.trainer.callback_metrics.items()}
            write_whole(run.folder / name, (json.dumps(metrics, indent=2) + "\n").encode())

    def predict(self, **kwargs: Any) -> None:
        """Predictions as JSON lines: in the checkpoint's run folder, or here where it has none."""
        batches = self.trainer.predict(**kwargs | {"return_predictions": True}) or []
        if self.trainer.world_size > 1:
            shares: list[Any] = [None] * self.trainer.world_size
            dist.all_gather_object(shares, batches)
            batches = [batch for turn in zip(*shares, strict=True) for batch in turn]
        if not self.trainer.is_global_zero:
            return
        run = self._measured_run()
        path = (run.folder if run else Path()) / "predictions.jsonl"
        rows = (json.dumps(row, ensure_ascii=False) for batch in batches for row in batch)
        write_whole(path, "".join(f"{row}\n" for row in rows).encode())
        print(f"predictions in {path}")

    def _measured_run(self) -> Run | None:
        return run_holding(self._get(self.config, "ckpt_path"))


def fit(arguments: list[str]) -> None:
    check_same_run(arguments)
    ExperimentCLI(["fit", *arguments])


def check_same_run(arguments: list[str]) -> None:
    """Raises ValueError where a run's checkpoint is to go on under the name of another run."""
    checkpoint = value_of(arguments, "--ckpt_path")
    run = run_holding(checkpoint)
    if run is None:
        return
    names = {"--experiment": run.experiment}
    if not is_batch():  # where slurm/train.sbatch says one, whatever checkpoint follows
        names["--run_id"] = run.id
    for option, name in names.items():
        if value_of(arguments, option) not in (None, "null", name):
            raise ValueError(
                f"{checkpoint} is of {run.folder}, where training goes on: leave {option} out"
            )


def resume(arguments: list[str]) -> None:
    """`tfzoo resume RUN [--key value ...]`: goes on from the newest whole checkpoint of a run's folder."""
    if arguments[:1] in (["--help"], ["-h"]):
        print("usage: tfzoo resume runs/EXPERIMENT/ID [what tfzoo fit takes]\n")
        fit(["--help"])
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(
            "resume needs the folder of a run: tfzoo resume runs/EXPERIMENT/ID [--key value ...]"
        )
    run = run_of(Path(arguments[0]))
    check_free(run)  # what it has saved by now is no matter of another's
    said = value_of(arguments, "--ckpt_path")
    if said is not None and run_holding(said) != run:
        raise ValueError(
            f"--ckpt_path {said} is no checkpoint of {run.folder}: without it resume takes the newest one there"
        )
    newest = said or newest_sound(run)
    if newest is None:
        raise ValueError(
            f"{run.folder} holds no whole checkpoint to go on from: begin anew with tfzoo fit -c "
            f"{run.config_file}, or name a checkpoint with --ckpt_path, such as best.ckpt"
        )
    fit(["-c", str(run.config_file), "--ckpt_path", str(newest), *arguments[1:]])


def validate(arguments: list[str]) -> None:
    ExperimentCLI(["validate", *arguments])


def test(arguments: list[str]) -> None:
    ExperimentCLI(["test", *arguments])


def predict(arguments: list[str]) -> None:
    ExperimentCLI(["predict", *arguments])
