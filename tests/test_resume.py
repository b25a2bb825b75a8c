"""A run stopped anywhere and resumed is the run that never stopped: every logged figure, and the last weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tfzoo.cli import main
from tfzoo.tracking.runs import Run, newest_checkpoint, numbered
from tfzoo.training.checkpoint import read_checkpoint

TASKS = {
    "Translation": [],
    "TextClassification": [
        "--model.token_dropout=0.3",
        "--model.masked_lm=0.3",
        "--model.consistency=1",
    ],
    "ImageClassification": ["--model.mixup=0.5", "--data.flip=0.5", "--data.batch_size=4"],
    "Generation": [],
}
STEPS = 9
EMA = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5}}


def flags(task: str, *more: str, last: dict | None = None) -> list[str]:
    """Of a run with everything that has a state: dropout, averaging, accumulation, a schedule, several epochs."""
    callbacks = [EMA, {"class_path": "Last", "init_args": last or {"every_n_steps": 1, "keep": 99}}]
    return [
        f"--trainer.max_steps={STEPS}",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=3",
        "--trainer.log_every_n_steps=1",
        "--model.backbone.dropout=0.2",
        f"--trainer.callbacks={json.dumps(callbacks)}",
        *TASKS[task],
        *more,
    ]


def fit(experiment, task: str, folder: Path, *more: str) -> Path:
    arguments = ["fit", "-c", str(experiment(task)), f"--runs={folder}", "--run_id=1"]
    assert main([*arguments, *flags(task), *more]) == 0
    return folder / task.lower() / "1"


def assert_same(whole: Path, resumed: Path, steps: int = STEPS) -> None:
    assert (resumed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    ours, theirs = (read_checkpoint(newest_checkpoint(Run(run))) for run in (whole, resumed))
    assert ours["global_step"] == theirs["global_step"] == steps
    for state in ("state_dict", "current_model_state"):
        for name, weight in ours[state].items():
            assert torch.equal(weight, theirs[state][name]), (state, name)
    best = [read_checkpoint(run / "checkpoints/best.ckpt") for run in (whole, resumed)]
    assert best[0]["global_step"] == best[1]["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_resumed_from_any_checkpoint_is_the_run_never_stopped(task, experiment, tmp_path):
    run = fit(experiment, task, tmp_path / "runs")
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    saved = numbered(whole / "checkpoints")
    assert len(saved) >= 5
    for checkpoint in saved[1:]:
        step = int(checkpoint.stem[5:])
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        for later in numbered(run / "checkpoints"):
            if int(later.stem[5:]) > step:
                later.unlink()
        assert main(["resume", str(run)]) == 0
        assert_same(whole, run)
        # What the resumed run saved is as good to go on from as what the whole one did.
        for file in numbered(run / "checkpoints"):
            ours, theirs = progress(whole / "checkpoints" / file.name), progress(file)
            assert ours == theirs, (step, file.name)


def progress(checkpoint: Path) -> dict:
    """Where the training stands; what torchdata counts along, and needs of samplers without a state alone, apart."""
    loops = read_checkpoint(checkpoint)["loops"]
    for loader in loops["fit_loop"]["state_dict"]["combined_loader"]:
        for count in ("_num_yielded", "_sampler_iter_yielded"):
            loader.pop(count)
    return loops


def served(commands: Path) -> None:
    """Runs each command of a file of JSON lines in a fork, and kills it so many seconds after its first checkpoint.

    A negative number counts from its start; none lets it live.
    """
    import tfzoo.cli.experiment  # noqa: F401  # once, so that a fork starts at once

    for line in commands.read_text().splitlines():
        arguments, seconds = json.loads(line)
        folder = Path(arguments[-1].removeprefix("--runs=")) / arguments[-2]
        child = os.fork()
        if child == 0:
            run = Run(folder)
            again = run.started() and newest_checkpoint(run) is not None
            os._exit(main(["resume", str(folder)] if again else arguments[:-2] + arguments[-1:]))
        if seconds is not None:
            before, patience = newest_checkpoint(Run(folder)), time.monotonic() + 60
            while seconds >= 0 and newest_checkpoint(Run(folder)) == before:
                assert time.monotonic() < patience
                time.sleep(0.01)
            time.sleep(abs(seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(status, len(numbered(folder / "checkpoints")), flush=True)
        assert seconds is not None or status == 0


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_killed_ten_times_is_the_run_never_killed(task, experiment, tmp_path):
    steps = 80
    config = str(experiment(task))
    more = [f"--trainer.max_steps={steps}", "--run_id=1"]
    if task in ("Translation", "ImageClassification"):
        more.append("--data.workers=1")
    chance = random.Random(task)
    arguments = ["fit", "-c", config, *flags(task, *more, last={"every_n_steps": 2})]
    folder = f"{task.lower()}/1"
    commands = [
        [[*arguments, folder, f"--runs={tmp_path / 'killed'}"], seconds]
        for seconds in [*(chance.uniform(-0.5, 0.5) for _ in range(10)), None]
    ]
    commands.append([[*arguments, folder, f"--runs={tmp_path / 'whole'}"], None])
    file = tmp_path / "commands"
    file.write_text("".join(json.dumps(command) + "\n" for command in commands))
    done = subprocess.run(
        [sys.executable, __file__, str(file)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming from" in done.stdout
    assert_same(tmp_path / "whole" / folder, tmp_path / "killed" / folder, steps)


if __name__ == "__main__":
    served(Path(sys.argv[1]))
