"""What comes before LightningCLI reads its arguments: --data PATH, --points FILE, the config of a checkpoint's run."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import yaml

from tfzoo.data.corpora import CORPORA
from tfzoo.data.source import READERS
from tfzoo.tracking.runs import check_checkpoint, run_holding


def prepared(arguments: list[str]) -> list[str]:
    """The arguments as LightningCLI understands them.

    `--points FILE` of `fit` is a line of the file, that of this task of a job array, or `FILE:3`: the flags of a point
    of a sweep, and the id of its run. `--data PATH`, with the path of a data set or the name of an embedded one, is
    `--data.path PATH`. And `test`, `validate` and `predict` of a checkpoint need no `-c`: its run's own is taken.
    """
    subcommand, *rest = arguments
    if subcommand == "fit":
        rest = _of_point(rest)
    rest = _data_paths(rest)
    options = {argument.partition("=")[0] for argument in rest}
    checkpoint = value_of(rest, "--ckpt_path")
    if checkpoint and checkpoint not in ("last", "best"):
        check_checkpoint(checkpoint)
    if subcommand == "fit" and not options & {
        "-c",
        "--config",
        "--help",
        "-h",
        "--model",
        "--data",
    }:
        raise ValueError(
            "fit needs an experiment: tfzoo fit -c experiments/generation/shakespeare.yaml"
        )
    if (
        subcommand != "fit"
        and not options & {"--help", "-h"}
        and not any(map(names_a_task, _config_files(rest)))
    ):
        run = run_holding(checkpoint)
        if run is not None and run.config_file.is_file():
            rest = ["-c", str(run.config_file), *rest]
        else:
            raise ValueError(
                f"{subcommand} needs --ckpt_path of a run, whose config is then taken, or a config of its own with -c"
            )
    return [subcommand, *rest]


def _of_point(arguments: list[str]) -> list[str]:
    """With the flags of a point, which beat those before, in place of --points."""
    said = value_of(arguments, "--points")
    if said is None:
        return arguments
    place = max(i for i, a in enumerate(arguments) if a.partition("=")[0] == "--points")
    others = arguments[:place] + arguments[place + (1 if "=" in arguments[place] else 2) :]
    file, _, number = said.rpartition(":") if not Path(said).exists() else (said, "", "")
    number = number or os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if not number.isdecimal():
        raise ValueError(
            f"--points {said} is for a job array, which says the number of the point: say it as {said}:0"
        )
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        point = json.loads(lines[int(number)])
        return [*others, *map(str, point["flags"]), "--run_id", str(point["run_id"])]
    except IndexError:
        raise ValueError(f"{file} has no point {number}, only {len(lines)} lines") from None
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"line {number} of {file} is no point of a sweep") from None


def _data_paths(arguments: list[str]) -> list[str]:
    changed: list[str] = []
    previous = ""
    for argument in arguments:
        if argument.startswith("--data=") and _is_data(argument.removeprefix("--data=")):
            argument = argument.replace("--data=", "--data.path=", 1)
        elif previous == "--data" and _is_data(argument):
            changed[-1] = "--data.path"
        changed.append(argument)
        previous = argument
    return changed


def _is_data(value: str) -> bool:
    """Whether this is a data set, be it that it is not there; else it is a class, or a config file."""
    path = Path(value)
    if path.suffix in (".yaml", ".yml"):
        return False
    return value in CORPORA or path.exists() or "/" in value or path.suffix in READERS


def _config_files(arguments: list[str]) -> list[str]:
    options = list(pairwise(arguments))
    files = [value for option, value in options if option in ("-c", "--config")]
    return files + [a.partition("=")[2] for a in arguments if a.startswith(("-c=", "--config="))]


def names_a_task(file: str | Path) -> bool:
    """Whether a config file says what is trained, and not only on what hardware; true of one that cannot be read."""
    try:
        config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return True  # the parser's to complain of
    return isinstance(config, dict) and "model" in config


def value_of(arguments: list[str], option: str) -> str | None:
    """What an option is set to: the last time that it is said counts, as for the parser."""
    value = None
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
        elif argument == option and position + 1 < len(arguments):
            value = arguments[position + 1]
    return value
