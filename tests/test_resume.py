"""A run stopped anywhere and resumed is the run that never stopped: every logged figure, and the last weights."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import killed
import pytest
import torch

from tfzoo.cli import main
from tfzoo.tracking.runs import Run, newest_checkpoint, numbered
from tfzoo.training.callbacks import Show
from tfzoo.training.checkpoint import read_checkpoint

TASKS = {
    # Words in one piece: decoding sixty letters at each validation would take most of the time.
    "Translation": ["--data.tokenizer=bpe"],
    "TextClassification": [
        "--model.token_dropout=0.3",
        "--model.masked_lm=0.3",
        "--model.consistency=1",
    ],
    "ImageClassification": ["--model.mixup=0.5", "--data.flip=0.5", "--data.batch_size=4"],
    "Generation": [],
}
STEPS = 9
STREAMED = ["--data.streaming=true", "--data.max_length=64", "--data.shuffle_buffer=4"]
QUICK = {"class_path": "CompileBlocks", "init_args": {"backend": "aot_eager"}}
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


def state(checkpoint: Path) -> dict:
    """All that a checkpoint holds; of the files and folders it tells of, which lie apart, the names."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {named(key): named(one) for key, one in value.items()}
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    found = read_checkpoint(checkpoint)
    return found | {"callbacks": named(found["callbacks"]), "loops": progress(checkpoint)}


def assert_equal(ours: Any, theirs: Any, where: str = "") -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for place, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, f"{where}/{place}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


def assert_same(whole: Path, resumed: Path, steps: int = STEPS) -> None:
    assert (resumed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    ours, theirs = (state(newest_checkpoint(Run(run))) for run in (whole, resumed))
    assert ours["global_step"] == theirs["global_step"] == steps
    assert {"state_dict", "current_model_state", "optimizer_states", "lr_schedulers"} <= ours.keys()
    assert_equal(ours, theirs)
    best = [read_checkpoint(run / "checkpoints/best.ckpt") for run in (whole, resumed)]
    assert best[0]["global_step"] == best[1]["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "more"),
    [*((task, []) for task in TASKS), ("TextClassification", STREAMED)],
    ids=[*TASKS, "streamed"],
)
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_run_resumed_from_any_checkpoint_is_the_run_never_stopped(
    task, more, stride, experiment, tmp_path, monkeypatch
):
    run = fit(experiment, task, tmp_path / "runs", *more)
    # What is shown on the way costs time, and must not matter.
    monkeypatch.setattr(Show, "on_validation_epoch_end", lambda show, *_: show._forget())
    monkeypatch.setattr(Show, "on_train_end", lambda *_: None)
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    saved = numbered(whole / "checkpoints")
    assert len(saved) >= 5
    for checkpoint in saved[1::stride]:
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["--data.batch_size=2"],
        ["--data.batch_size=99"],
        ["--data.batch_size=1", "--trainer.accumulate_grad_batches=3"],
        ["--data.batch_size=2", "--trainer.accumulate_grad_batches=99"],
        ["--data.batch_size=2", "--data.streaming=true", "--data.shuffle_buffer=4"],
    ],
    ids=[
        *["several batches an epoch", "one batch an epoch", "accumulated", "an epoch a step"],
        "streamed",
    ],
)
@pytest.mark.parametrize("interval", [2, 3, 100])
@pytest.mark.parametrize("end", [4, 5])
def test_a_run_that_came_to_its_end_goes_on_as_if_it_had_not(
    end, interval, more, experiment, tmp_path
):
    """Whether or not what is asked for later would have validated there, as a run shorter than its interval does."""

    def run(folder: str, steps: int) -> Path:
        arguments = ["fit", "-c", str(experiment("ImageClassification")), "--run_id=1"]
        settings = [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={interval}"]
        settings += ["--trainer.log_every_n_steps=1", *more]
        settings += ["--model.schedule=Constant"]  # others know of the end
        assert main([*arguments, *settings, f"--runs={tmp_path / folder}"]) == 0
        return tmp_path / folder / "imageclassification/1"

    def learned(run: Path) -> list[tuple[str, str]]:
        with (run / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [(row["step"], row["train/loss"]) for row in rows if row["train/loss"]]

    whole, parted = run("whole", 9), run("parted", end)
    assert main(["resume", str(parted), "--trainer.max_steps=9"]) == 0
    assert len(learned(whole)) == 9
    assert learned(parted) == learned(whole)


def progress(checkpoint: Path) -> dict:
    """Where the training stands; what torchdata counts along, and needs of samplers without a state alone, apart."""

    def counted(state: Any) -> Any:
        if isinstance(state, list):
            return [counted(one) for one in state]
        if not isinstance(state, dict):
            return state
        apart = ("_num_yielded", "_sampler_iter_yielded")
        return {key: counted(value) for key, value in state.items() if key not in apart}

    return counted(read_checkpoint(checkpoint)["loops"])


CHECKPOINTS = [
    "while a checkpoint is written",
    "between fsync and rename",
    "between a checkpoint and the log of its step",
    "between rename and removal of the old",
]


SPLIT = ["--data.tokenizer=bpe", "--data.bpe_dropout=0.3", "--data.vocab_size=300"]
Case = tuple[str, list, int, list[str]]
"""A task, one death after the other, the steps of the whole run, and flags."""


def at_any_moment(task: str) -> Case:
    """Fourteen: in a run without a checkpoint, then at each moment, at a number of its own, and at any time."""
    chance = random.Random(task)
    moments = ["in backward", "in the optimiser's step", "in validation", "while a row is logged"]
    deaths: list = [[moment, chance.randint(2, 5)] for moment in moments + CHECKPOINTS]
    deaths += [["while provenance.json is written", 1], ["while a worker loads", 6]]
    deaths += [chance.uniform(0.0, 0.3), -chance.uniform(0.1, 0.5)]
    chance.shuffle(deaths)
    begins = ["while config.yaml is written", "while metrics.csv is rewritten"]
    return task, [[moment, 1] for moment in begins] + deaths, 50, ["--data.workers=1"]


def now_and_then(task: str, moments: list[str], *more: str) -> Case:
    usual = ["in backward", "in validation", CHECKPOINTS[2]]
    deaths = [[moment, 3 + place % 3] for place, moment in enumerate([*moments, *usual])]
    return task, deaths, 30, list(more)


CASES = {task: at_any_moment(task) for task in TASKS} | {
    "streamed": now_and_then("TextClassification", [], *STREAMED),
    "streamed by a worker": now_and_then(
        "TextClassification", ["while a worker streams"], *STREAMED, "--data.workers=1"
    ),
    "packed": now_and_then(
        "Translation", [], "--data.packing=true", "--data.max_length=64", *SPLIT
    ),
    "saved in the background": now_and_then(
        "Generation", CHECKPOINTS[:2], "--trainer.plugins=BackgroundCheckpointIO"
    ),
}


def command(experiment: Any, folder: Path, case: Case, death: Any) -> list:
    """What `killed` is to do for a life of a run in a folder."""
    task, _, steps, more = case
    arguments = ["fit", "-c", str(experiment(task)), f"--runs={folder}", "--run_id=1"]
    more = flags(task, f"--trainer.max_steps={steps}", *more, last={"every_n_steps": 2})
    return [[*arguments, *more], str(folder / task.lower() / "1"), death]


def lived(experiment: Any, folder: Path, parts: Sequence[dict[str, Case]], born: str) -> Path:
    """Each case trained twice, once with a death after the other: the folders CASE-whole and CASE-killed.

    Parts are done side by side.
    """
    serving = []
    for number, part in enumerate(parts):
        commands = []
        for name, case in part.items():
            commands.append(command(experiment, folder / f"{name}-whole", case, None))
            for death in [*case[1], None]:
                commands.append(command(experiment, folder / f"{name}-killed", case, death))
        file = folder / f"commands-{number}"
        file.write_text("".join(json.dumps(one) + "\n" for one in commands))
        process = forked.Popen(
            [sys.executable, killed.__file__, f"--{born}", str(file)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # threads do not survive a fork
            stdout=(folder / f"said-{number}").open("w"),
            stderr=subprocess.STDOUT,
        )
        serving.append(process)
    for number, process in enumerate(serving):
        code = process.wait(timeout=1200)
        said = (folder / f"said-{number}").read_text()
        assert code == 0, said
        assert "resuming from" in said
    return folder


def assert_as_if_never_killed(lives: Path, name: str, case: Case) -> None:
    task, _, steps, _ = case
    whole, other = (lives / f"{name}-{how}" / task.lower() / "1" for how in ("whole", "killed"))
    assert_same(whole, other, steps)
    assert not list(other.rglob(".*"))  # nor is anything left half written


@pytest.fixture(scope="module")
def lives(experiment: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cases = list(CASES.items())
    halves = dict(cases[::2]), dict(cases[1::2])
    return lived(experiment, tmp_path_factory.mktemp("lives"), halves, "forked")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_at_any_moment_is_the_run_never_killed(case, lives):
    assert_as_if_never_killed(lives, case, CASES[case])


ON_GPU = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.deterministic=true"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_killed_on_a_gpu_is_the_run_never_killed(precision, experiment, tmp_path):
    """Fourteen deaths of each task, of all tasks side by side."""
    more = [*ON_GPU, f"--trainer.precision={precision}"]
    cases = {task: (*CASES[task][:3], [*CASES[task][3], *more]) for task in TASKS}
    lives = lived(experiment, tmp_path, [{task: case} for task, case in cases.items()], "fresh")
    for task, case in cases.items():
        assert_as_if_never_killed(lives, task, case)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.slow
def test_the_scale_of_gradients_goes_on(experiment, tmp_path):
    more = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=16-mixed"]
    run = fit(experiment, "TextClassification", tmp_path / "runs", *more)
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert "MixedPrecision" in read_checkpoint(newest_checkpoint(Run(whole)))
    for later in numbered(run / "checkpoints"):
        if int(later.stem[5:]) > 4:
            later.unlink()
    assert main(["resume", str(run)]) == 0
    ours, theirs = (state(newest_checkpoint(Run(one))) for one in (whole, run))
    assert ours["MixedPrecision"] == theirs["MixedPrecision"]
    assert ours["global_step"] == theirs["global_step"] == STEPS


PLACES = [
    *(("cpu", task) for task in ("Translation", "Generation")),
    *(
        pytest.param(
            "gpu",
            task,
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
            ],
        )
        for task in TASKS
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("accelerator", "task"), PLACES)
def test_a_compiled_run_in_mixed_precision_goes_on(accelerator, task, experiment, tmp_path):
    more = [
        f"--trainer.accelerator={accelerator}",
        "--trainer.devices=1",
        "--trainer.precision=bf16-mixed",
        "--trainer.deterministic=true",
        "--trainer.callbacks+=CheckpointBlocks",
        "--trainer.callbacks+=CompileBlocks",
    ]
    if accelerator == "cpu":  # without inductor's C++, which would take a minute
        more[-1] = f"--trainer.callbacks+={json.dumps(QUICK)}"
    run = fit(experiment, task, tmp_path / "runs", *more)
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    for later in numbered(run / "checkpoints"):
        if int(later.stem[5:]) > 4:
            later.unlink()
    assert main(["resume", str(run)]) == 0
    assert_same(whole, run)
