"""`tfzoo plan`: what an experiment will take on many devices, told before it is queued, without one of them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from importlib import import_module
from typing import Any

import torch
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging

from tfzoo.cli.apply import Parser
from tfzoo.cli.complaints import nearest
from tfzoo.cli.experiment import ExperimentCLI
from tfzoo.cli.planned import tell
from tfzoo.cli.words import known_words
from tfzoo.data import TaskData
from tfzoo.data.source import at_hand, is_local
from tfzoo.data.supposing import Suppositions
from tfzoo.training.devices import memory_size, peak_flops
from tfzoo.training.intervals import check_said_once
from tfzoo.training.planning import Job, planned
from tfzoo.training.rehearsal import Precision


class PlannedExperiment(ExperimentCLI):
    """An experiment read as `tfzoo fit` reads it, and built without contents; no trainer is made.

    data, model (on the meta device), config: of the experiment; supposed: what was supposed of data not read, None
    where it was read.
    """

    supposed: list[str] | None = None

    def __init__(self, arguments: list[str], suppose: bool, classes: int | None) -> None:
        self.suppose, self.classes = suppose, classes
        super().__init__(["fit", *arguments])

    def instantiate_classes(self) -> None:
        config = self.config.clone()
        # What belongs to a run, or wants the devices.
        idle = {"logger": False, "callbacks": None, "strategy": "auto", "plugins": None}
        for key, value in idle.items():
            config["fit"]["trainer"][key] = value
        with torch.device("meta"):
            self.config_init = self.parser.instantiate_classes(config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is trained."""

    def facts(self, data: TaskData) -> Any:
        with torch.device("cpu"):
            if at_hand(data.path) and not self.suppose:
                return data.facts
            if not self.suppose and is_local(data.path):
                raise FileNotFoundError(
                    f"there is no file or folder {data.path}: --suppose plans without it"
                )
            settings = self._get(self.config, "model")["init_args"]
            positions = settings["backbone"]["max_length"]
            suppositions = Suppositions(positions, classes=self.classes)
            if patch := settings.get("patch"):
                side = patch * math.isqrt(positions - 1)  # beside the class token
                suppositions.side = min(suppositions.side, side)
            facts = data.suppose(suppositions)
            self.supposed = suppositions.said
            return facts

    @property
    def settings(self) -> Any:
        """The trainer's."""
        return self._get(self.config, "trainer")

    def job(self, devices: int | None) -> Job:
        """How the training is spread, by default as the config says."""
        settings = self.settings
        if devices is None:
            devices = _each(settings["devices"]) * settings["num_nodes"]
        accumulate = settings["accumulate_grad_batches"] or 1
        of_step = self._get(self.config, "batches_per_step")
        for name, value in (
            ("devices", devices),
            ("accumulate_grad_batches", settings["accumulate_grad_batches"]),
            ("batches_per_step", of_step),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if of_step is not None:
            check_said_once(accumulate)
            accumulate = math.ceil(of_step / devices)
            if of_step % devices:
                print(
                    f"tfzoo: {devices} devices cannot share {of_step} batches_per_step: planned with "
                    f"{accumulate * devices}; tfzoo fit would want a multiple of {devices}",
                    file=sys.stderr,
                )
        steps = settings["max_steps"] if settings["max_steps"] > 0 else None
        if (epochs := settings["max_epochs"]) and epochs > 0 and self.supposed is None:
            of_epoch = self._steps_of_epoch(devices * accumulate)
            steps = min(filter(None, (steps, of_epoch and epochs * of_epoch)), default=None)
        averages = sum(map(_averages, settings["callbacks"] or []))
        return Job(devices, accumulate, averages, steps, _gradients_are_views(settings["strategy"]))

    def _steps_of_epoch(self, batches: int) -> int | None:
        """None for a stream, which has no end that is known."""
        if self.datamodule.streaming:
            return None
        return math.ceil(len(self.datamodule.train_dataloader()) / batches)

    def validations(self, job: Job) -> int | None:
        interval = self.settings["val_check_interval"]
        by_batches = isinstance(interval, int) and not self.settings["check_val_every_n_epoch"]
        if not by_batches or job.steps is None:
            return None
        # As in `fit`: where batches of all devices make a step, all of them count.
        counted = job.devices if self._get(self.config, "batches_per_step") is not None else 1
        return max(1, job.steps * job.accumulate * counted // interval)


def _each(devices: Any) -> int:
    """How many devices of a node a trainer is told of: by 4, "4", "0,2" or [0, 2]; one where it is not said."""
    if isinstance(devices, str) and "," in devices:
        devices = [device for device in devices.split(",") if device.strip()]
    each = len(devices) if isinstance(devices, list) else devices
    return int(each) if str(each).isdecimal() else 1


def _gradients_are_views(strategy: Any) -> bool:
    """Whether a strategy, as the config has it, keeps gradients in the buckets in which they travel."""
    said = None if isinstance(strategy, str) else strategy.get("init_args")
    return bool(said and said.get("gradient_as_bucket_view"))


def _averages(callback: Any) -> bool:
    """Whether a callback, as the config has it, keeps an average of the weights on the device."""
    module, _, name = callback["class_path"].rpartition(".")
    kind = getattr(import_module(module), name)
    device = (callback.get("init_args") or {}).get("device")
    return issubclass(kind, WeightAveraging) and str(device) != "cpu"


def _parser() -> Parser:
    parser = Parser(
        prog="tfzoo plan",
        description="Memory, speed and time of an experiment on many devices, without any of them. "
        "Beside these options: those of tfzoo fit, -c EXPERIMENT first of all.",
        allow_abbrev=False,
    )
    parser.add_argument("--devices", type=int, help="in all; none: as many as the config says")
    parser.add_argument("--device-memory", help="of each: 80GB, 80GiB, 24576MiB")
    parser.add_argument("--device", help='whose peak is known: "h100 sxm", a100, l4 ...')
    parser.add_argument("--device-flops", type=float, help="the peak of any other: 989e12")
    parser.add_argument(
        "--utilisation", type=float, default=0.4, help="share of the peak reached (%(default)s)"
    )
    parser.add_argument("--classes", type=int, help="where the data is not read: how many")
    parser.add_argument("--suppose", action="store_true", help="read no data, even if it is here")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    return parser


def _checked(options: argparse.Namespace) -> None:
    """Raises ValueError for options that make no sense."""
    for name in ("devices", "classes"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    if options.device_flops is not None and not 0 < options.device_flops < math.inf:
        raise ValueError(f"--device-flops must be above 0, not {options.device_flops}")
    if not 0 < options.utilisation <= 1:
        raise ValueError(f"--utilisation must be above 0 and at most 1, not {options.utilisation}")


def _check_options(rest: list[str], own: list[str]) -> None:
    """Raises ValueError for an option that is neither of `tfzoo plan` nor of `tfzoo fit`."""
    known = {*known_words(""), "print_config", "help"}
    for argument in rest:
        name = argument.partition("=")[0].removeprefix("--")
        if argument.startswith("--") and name.partition(".")[0].rstrip("+") not in known:
            raise ValueError(f"plan has no --{name}{nearest(name, [*own, *known])}")


def plan(arguments: list[str]) -> None:
    """`tfzoo plan -c experiments/... --devices 64 --device-memory 80GB --device "h100 sxm"`."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    _checked(options)
    _check_options(rest, [o.lstrip("-") for o in parser._option_string_actions])
    given = {argument.partition("=")[0] for argument in rest}
    if not given & {"-c", "--config", "--model", "--data"}:
        raise ValueError(
            "plan needs an experiment: tfzoo plan -c experiments/generation/shakespeare.yaml --devices 8"
        )
    room = memory_size(options.device_memory) if options.device_memory else None
    experiment = PlannedExperiment(rest, options.suppose, options.classes)
    if options.classes and experiment.supposed is None:
        raise ValueError(
            f"--classes is for data that is not read, but {experiment.datamodule.path} is here: "
            "leave it out, or add --suppose"
        )
    precision = Precision.of(experiment.settings["precision"])
    peak = options.device_flops
    if peak is None and options.device:
        peak = peak_flops(options.device, precision.compute)
    job = experiment.job(options.devices)
    batch = experiment.datamodule.full_batch(experiment.model.facts)
    selected = float(getattr(experiment.model, "token_dropout", 0.0))
    found = planned(experiment.model, batch, precision, job, selected)
    told: dict[str, Any] = {
        "task": type(experiment.model).__name__,
        "precision": str(experiment.settings["precision"] or "32-true"),
        **found.to_dict(),
        "device": options.device,
        "device_memory": room,
        "device_flops": peak,
        "utilisation": options.utilisation,
        "per_second": peak and found.speed(peak, options.utilisation),
        "seconds": peak and found.seconds(peak, options.utilisation),
        "validations": experiment.validations(job),
        "supposed": experiment.supposed,
    }
    if told["seconds"] is not None:
        told["device_hours"] = told["seconds"] * job.devices / 3600
    if room:
        for row, memory in zip(told["memory"], found.memory, strict=True):
            row["fits"] = memory.fits(room)
    print(json.dumps(told, indent=2)) if options.json else tell(told)
