"""Small experiments, written and trained once a session, for tests of whatever comes after.

The import of tfzoo comes first: lightning needs the operators that it declares for torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tfzoo  # noqa: F401

BACKBONE = {"dim": 32, "depth": 2, "heads": 2, "hidden": 64, "dropout": 0.0, "max_length": 64}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Translation": ({"max_extra_tokens": 4}, {"tokenizer": "characters"}),
    "TextClassification": ({}, {"tokenizer": "characters"}),
    "ImageClassification": ({"patch": 14}, {}),
    "Generation": ({"sample_tokens": 8}, {"context": 32, "batch_size": 4}),
}
"""Of each task, what the model and what the data are told beside the usual."""


HEAVY = ("test_devices.py", "test_resume.py", "test_jobs.py", "test_submit.py", "test_thrown.py")
"""The files that take longest: begun first, no process is left alone with one of them in the end."""


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: HEAVY.index(item.path.name) if item.path.name in HEAVY else 99)


@pytest.fixture(autouse=True)
def one_trainers_choice() -> Iterator[None]:
    """A Trainer told to be deterministic makes the whole process so, and a later one that is told nothing leaves it."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a small experiment of a task, with its set beside it: `experiment("Translation")`."""
    from small_sets import NO_PICTURES, SMALL_SETS

    home = tmp_path_factory.mktemp("experiments")

    @cache
    def written(task: str) -> Path:
        model, data = SETTINGS[task]
        folder = home / task / "data"
        folder.mkdir(parents=True)
        SMALL_SETS[f"{task}Data"](folder, {"context": 32})
        config = {
            "model": {
                "class_path": task,
                "init_args": {
                    "backbone": BACKBONE,
                    "schedule": {"class_path": "Linear", "init_args": {"warmup": 1}},
                    **model,
                },
            },
            "data": {
                "class_path": f"{task}Data",
                "init_args": {"path": str(folder), "cache_dir": str(home / "cache"), **data},
            },
            "trainer": {
                "accelerator": "cpu",
                "max_steps": 2,
                "val_check_interval": 1,
                "check_val_every_n_epoch": None,
                "enable_progress_bar": False,
                "callbacks": [NO_PICTURES],
                "logger": {"class_path": "tfzoo.tracking.loggers.MetricsLogger"},
            },
        }
        file = home / task / f"{task.lower()}.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        return file

    return written


@pytest.fixture(scope="session")
def trained(
    experiment: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a run of that experiment, two steps long; not to be written into."""
    # Before a test captures standard error, to which lightning holds on when it is imported.
    import tfzoo.cli.experiment  # noqa: F401
    from tfzoo.cli import main

    runs = tmp_path_factory.mktemp("runs")

    @cache
    def run(task: str) -> Path:
        # The one run that is drawn of.
        drawn = "--trainer.callbacks=null"
        assert main(["fit", "-c", str(experiment(task)), "--runs", str(runs), drawn]) == 0
        (folder,) = (runs / task.lower()).iterdir()
        return folder

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of tests/test_thrown.py: what was thrown at tfzoo and what came back."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    rows = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "thrown" and report.when == "call"
    ]
    if not rows:
        return
    terminalreporter.section("what was thrown, and what came back")
    width = max(len(what) for what, _ in rows)
    for what, came in sorted(map(tuple, rows)):
        terminalreporter.line(f"{what:<{width}}  {came}")
