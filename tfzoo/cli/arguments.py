"""Two kindnesses before LightningCLI reads its arguments: --data PATH, and the config of a checkpoint's own run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import yaml

from tfzoo.data.corpora import CORPORA
from tfzoo.data.source import READERS
from tfzoo.tracking.runs import run_holding


def prepared(arguments: list[str]) -> list[str]:
    """The arguments as LightningCLI understands them.

    `--data PATH`, with the path of a data set or the name of an embedded one, is `--data.path PATH`. And `test`,
    `validate` and `predict` of a checkpoint need no `-c`: its run's own config is taken.
    """
    subcommand, *rest = arguments
    rest = _data_paths(rest)
    options = {argument.partition("=")[0] for argument in rest}
    checkpoint = _value(rest, "--ckpt_path")
    if checkpoint and checkpoint not in ("last", "best") and not Path(checkpoint).exists():
        raise FileNotFoundError(f"no checkpoint at {checkpoint}")
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


def _value(arguments: list[str], option: str) -> str | None:
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
    return None
