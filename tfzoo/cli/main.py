"""Finds the command and runs it; nothing heavy is imported before it is known which."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import tfzoo
from tfzoo import signals
from tfzoo.cli.complaints import nearest
from tfzoo.cli.mistakes import told_in_one_line


class Command(NamedTuple):
    """A command: what it does in one line, and where it lives as "module:function" of the arguments after its name.

    heeds: whether it is told of signals that ask to stop (`tfzoo.signals`); the others just end.
    """

    summary: str
    target: str
    heeds: bool = False

    def load(self) -> Callable[[list[str]], object]:
        module, _, function = self.target.partition(":")
        if module not in sys.modules:
            # Nothing that is imported is garbage: to look for it there takes a tenth of a start.
            collects = gc.isenabled()
            gc.disable()
            try:
                importlib.import_module(module)
            finally:
                gc.freeze()
                if collects:
                    gc.enable()
        return getattr(sys.modules[module], function)


COMMANDS = {
    "fit": Command(
        "train an experiment: tfzoo fit -c experiments/...", "tfzoo.cli.experiment:fit", heeds=True
    ),
    "resume": Command(
        "go on with a run from its newest checkpoint", "tfzoo.cli.experiment:resume", heeds=True
    ),
    "validate": Command(
        "measure a checkpoint on the validation split",
        "tfzoo.cli.experiment:validate",
        heeds=True,
    ),
    "test": Command(
        "measure a checkpoint on the test split", "tfzoo.cli.experiment:test", heeds=True
    ),
    "predict": Command(
        "write predictions for the test split", "tfzoo.cli.experiment:predict", heeds=True
    ),
    "plan": Command(
        "what an experiment takes on other devices: memory, speed, time",
        "tfzoo.cli.plan:plan",
    ),
    "submit": Command("submit an experiment or a sweep to SLURM", "tfzoo.cli.submit:submit"),
    "jobs": Command("the SLURM jobs of this project and their runs", "tfzoo.cli.jobs:jobs"),
    "runs": Command("all runs in one ranked table; a sweep by what varies", "tfzoo.cli.runs:runs"),
    "compare": Command(
        "what differs between runs: configs, figures, curves", "tfzoo.cli.compare:compare"
    ),
    "dashboard": Command(
        "all runs in the browser: curves, configs, pictures", "tfzoo.cli.dashboard:dashboard"
    ),
    "sync": Command("upload the W&B runs that were written offline", "tfzoo.cli.sync:sync"),
    "workspace": Command(
        "save a view on the W&B server to compare runs in", "tfzoo.cli.workspace:workspace"
    ),
    "translate": Command("translate text with a checkpoint", "tfzoo.cli.apply:translate"),
    "classify": Command(
        "classify text or image files with a checkpoint", "tfzoo.cli.apply:classify"
    ),
    "generate": Command("go on with a text by a checkpoint", "tfzoo.cli.apply:generate"),
    "demo": Command(
        "train and compare the four embedded experiments", "tfzoo.cli.demo:demo", heeds=True
    ),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tfzoo COMMAND ...",
            "",
            "One Transformer, every task.",
            "",
            "commands:",
            *lines,
            "",
            "tfzoo COMMAND --help says more; tfzoo --version prints the version.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 after a user's mistake, told in one line on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else "--help"
    with told_in_one_line() as outcome:
        if name in ("-h", "--help", "help"):
            print(usage())
        elif name == "--version":
            print(f"tfzoo {tfzoo.__version__}")
        elif name in COMMANDS:
            command = COMMANDS[name]
            with signals.heeded() if command.heeds else nullcontext():
                command.load()(arguments[1:])
        else:
            raise ValueError(
                f"no command {name!r}{nearest(name, COMMANDS)}; tfzoo --help lists them"
            )
    return outcome.code
