"""The same config and seed give the same figures and weights, bit for bit, in whatever process; another seed does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_resume import TASKS

from tfzoo.tracking.runs import Run, newest_checkpoint
from tfzoo.training.checkpoint import read_checkpoint

TRAIN = """
import json, sys
from tfzoo.cli import main
for arguments in json.loads(sys.argv[1]):
    assert main(arguments) == 0, arguments
"""
DETERMINISTIC = "--trainer.deterministic=true"
LIVES = {
    "deterministic": [DETERMINISTIC],
    "deterministic, by a worker": [DETERMINISTIC, "--data.workers=1"],
    "as usual": [],
    "as usual, by a worker": ["--data.workers=1"],
    "of another seed": [DETERMINISTIC, "--seed_everything=2"],
}


def command(experiment, task: str, folder: Path, *more: str) -> list[str]:
    flags = [
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
        "--model.backbone.dropout=0.2",
    ]
    log = "--trainer.log_every_n_steps=1"
    return [
        "fit",
        "-c",
        str(experiment(task)),
        f"--runs={folder}",
        *flags,
        log,
        *TASKS[task],
        *more,
    ]


def trained(experiment, folder: Path, lives: dict[str, list[str]]) -> dict[str, dict[str, Path]]:
    """By task and life the folder of a run; each life of all tasks in a process of its own, two at a time."""
    processes = []
    for number, (name, more) in enumerate(lives.items()):
        commands = [command(experiment, task, folder / name, *more) for task in TASKS]
        environment = os.environ | {"PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": "1"}
        said = (folder / f"said-{number}").open("w")
        arguments = [sys.executable, "-c", TRAIN, json.dumps(commands)]
        processes.append(
            subprocess.Popen(arguments, env=environment, stdout=said, stderr=subprocess.STDOUT)
        )
        if len(processes) % 2 == 0:
            processes[-2].wait(timeout=300)
    for number, process in enumerate(processes):
        assert process.wait(timeout=300) == 0, (folder / f"said-{number}").read_text()
    return {
        task: {name: next((folder / name).glob(f"{task.lower()}/*")) for name in lives}
        for task in TASKS
    }


@pytest.fixture(scope="module")
def runs(experiment, tmp_path_factory):
    return trained(experiment, tmp_path_factory.mktemp("lives"), LIVES)


def same(one: Path, other: Path) -> bool:
    ours, theirs = (
        read_checkpoint(newest_checkpoint(Run(run)))["state_dict"] for run in (one, other)
    )
    weights = all(torch.equal(ours[name], theirs[name]) for name in ours)
    figures = (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert weights == figures
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_run(task, runs):
    first, *others = runs[task].values()
    assert [same(first, other) for other in others] == [True, True, True, False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_on_a_gpu(experiment, tmp_path):
    gpu = [DETERMINISTIC, "--trainer.accelerator=gpu", "--trainer.devices=1"]
    for runs in trained(experiment, tmp_path, {"one": gpu, "other": gpu}).values():
        assert same(runs["one"], runs["other"])
