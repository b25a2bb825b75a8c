"""Two kindnesses before LightningCLI reads its arguments: --data PATH, and the config of a checkpoint's own run."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

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
    if subcommand != "fit" and not options & {"--help", "-h"} and not _names_a_task(rest):
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


def _names_a_task(arguments: list[str]) -> bool:
    """Whether a config file among the arguments says what is measured, and not only on what hardware."""
    options = list(pairwise(arguments))
    files = [value for option, value in options if option in ("-c", "--config")]
    files += [a.partition("=")[2] for a in arguments if a.startswith(("-c=", "--config="))]
    # A file that is not there is the parser's to complain of.
    return any(
        not Path(file).is_file()
        or re.search(r"^model:", Path(file).read_text(encoding="utf-8"), re.M)
        for file in files
    )


def _value(arguments: list[str], option: str) -> str | None:
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
    return None
