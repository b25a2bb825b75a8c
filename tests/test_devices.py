"""Two processes learn what one does from the same batches, whole or sharded, and measure exactly what one measures.

All that one or two processes do here they do one after the other, started once: most of a short training is its start.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import forked
import pytest
from small_sets import NO_PICTURES

STEPS, SAVED = 50, 25
TASKS = {
    "Translation": ["--data.batch_tokens=96"],
    "TextClassification": ["--data.batch_tokens=96"],
    "ImageClassification": ["--data.batch_size=1"],
    "Generation": ["--data.context=16", "--data.batch_size=3"],
}
STRATEGIES = {
    "one": (1, []),
    "ddp": (2, ["--trainer.strategy=ddp"]),
    "fsdp2": (2, ["--trainer.strategy=fsdp2"]),
}
# Without inductor's C++, which would take minutes; it has a test of its own.
COMPILE = {"class_path": "CompileBlocks", "init_args": {"backend": "aot_eager"}}
CHECKPOINT = {"class_path": "CheckpointBlocks"}
SAVE = {"class_path": "Last", "init_args": {"every_n_steps": SAVED, "keep": 99}}
VARIANTS = {
    "plain": (2, []),
    "accumulated": (4, []),
    "checkpointed": (2, [CHECKPOINT]),
    "compiled": (2, [COMPILE]),
    "all": (4, [CHECKPOINT, COMPILE]),
}
EVALUATIONS = {"test": "test.json", "validate": "validation.json", "predict": "predictions.jsonl"}


def on(strategy: str) -> list[str]:
    processes, said = STRATEGIES[strategy]
    return [f"--trainer.devices={processes}", *said]


def fit(config: Path, task: str, variant: str, strategy: str, runs: Path) -> list[str]:
    batches, callbacks = VARIANTS[variant]
    return [
        *["fit", "-c", str(config), *TASKS[task], *on(strategy)],
        f"--batches_per_step={batches}",
        f"--trainer.max_steps={STEPS}",
        "--trainer.val_check_interval=80",
        "--trainer.log_every_n_steps=1",
        f"--trainer.callbacks={json.dumps([*callbacks, SAVE, NO_PICTURES])}",
        *[f"--runs={runs / strategy}", f"--experiment={task}", f"--run_id={variant}"],
    ]


def served() -> None:
    """Runs the commands of every file named on standard input, in this process: as one of two where LOCAL_RANK says so.

    What it says goes to standard error; a word on standard output tells that a file is done.
    """
    from tfzoo.cli import main

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for file in map(str.strip, sys.stdin):
        for line in Path(file).read_text().splitlines():
            assert main(json.loads(line)) == 0, line
        print("done", file=answers)
    # Left to the interpreter's end, gloo's threads of so many trainings may abort it.
    sys.stdout.flush()
    os._exit(0)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Servers:
    """One process, or two that work together, which run commands for as long as this lasts."""

    def __init__(self, processes: int, folder: Path) -> None:
        alike = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
        self.folder = folder
        self.outputs = [folder / f"said-{processes}.{rank}" for rank in range(processes)]
        self.started = []
        for rank, output in enumerate(self.outputs):
            place = {"LOCAL_RANK": str(rank)} if processes > 1 else {}
            with output.open("w") as to:
                self.started.append(
                    forked.Popen(
                        [sys.executable, __file__],
                        env={**os.environ, **alike, **place},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=to,
                        text=True,
                        bufsize=1,
                    )
                )

    def run(self, commands: list[list[str]], name: str) -> None:
        """One command after the other, each on all processes."""
        file = self.folder / f"{name}-{len(self.started)}.jsonl"
        file.write_text("".join(json.dumps(command) + "\n" for command in commands))
        watch = threading.Timer(1200, self.end)  # hangs end, too
        watch.start()
        for process in self.started:
            process.stdin.write(f"{file}\n")
        answers = [process.stdout.readline() for process in self.started]
        watch.cancel()
        told = "\n".join(output.read_text() for output in self.outputs)
        assert answers == ["done\n"] * len(self.started), told

    def end(self) -> None:
        for process in self.started:
            process.kill()


Run = Callable[[dict[str, list[list[str]]], str], None]


@pytest.fixture(scope="module")
def run_all(tmp_path_factory) -> Iterator[Run]:
    """Runs the commands of each strategy on as many processes as it has; they are started once."""
    folder = tmp_path_factory.mktemp("servers")
    one, two = (Servers(processes, folder) for processes in (1, 2))

    def run(commands: dict[str, list[list[str]]], name: str) -> None:
        with ThreadPoolExecutor() as side_by_side:
            running = [
                side_by_side.submit(one.run, commands["one"], name),
                side_by_side.submit(two.run, commands["ddp"] + commands["fsdp2"], name),
            ]
        for end in running:
            end.result()

    yield run
    one.end()
    two.end()


def wanted(items: list[pytest.Item]) -> list[tuple[str, str]]:
    """The tasks and variants that the chosen tests of this file look at."""
    found = set()
    for item in items:
        if item.path == Path(__file__) and (callspec := getattr(item, "callspec", None)):
            task = callspec.params["task"]
            found |= {(task, "plain"), (task, callspec.params.get("variant", "all"))}
    return [pair for pair in product(TASKS, VARIANTS) if pair in found]


@pytest.fixture(scope="module")
def runs(experiment, run_all, tmp_path_factory, request) -> Path:
    """Of each strategy a folder of runs: of each task a run of each variant."""
    folder = tmp_path_factory.mktemp("devices")
    run_all(
        {
            strategy: [
                fit(experiment(task), task, variant, strategy, folder)
                for task, variant in wanted(request.session.items)
            ]
            for strategy in STRATEGIES
        },
        "fit",
    )
    return folder


def known(runs: Path) -> list[str]:
    """The tasks that were trained."""
    return [task for task in TASKS if (runs / "one" / task).is_dir()]


def logged(run: Path, prefix: str) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = [
            {name: float(x) for name, x in row.items() if name.startswith(prefix) and x}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row]


def assert_close(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)


pytestmark = pytest.mark.slow

# All four tasks with none and with all of accumulation, checkpointing and compiling, and each of these alone once; the
# other pairs are of the same kind.
ALONE = [
    ("TextClassification", "accumulated"),
    ("ImageClassification", "checkpointed"),
    ("Generation", "compiled"),
]


def pairs(variants: Iterable[str]) -> list[Any]:
    return [
        pytest.param(
            *pair,
            marks=() if pair[1] in ("plain", "all") or pair in ALONE else pytest.mark.exhaustive,
        )
        for pair in product(TASKS, variants)
    ]


@pytest.mark.parametrize(("task", "variant"), pairs(VARIANTS))
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_does(task, variant, strategy, runs):
    one, two = (logged(runs / kind / task / variant, "train/loss") for kind in ("one", strategy))
    assert len(one) == STEPS
    assert one[0]["train/loss"] - one[-1]["train/loss"] > 1e-3  # something was learned
    assert_close(one, two)
    one, two = (logged(runs / kind / task / variant, "val/") for kind in ("one", strategy))
    assert one
    assert_close(one, two)


@pytest.mark.parametrize(("task", "variant"), pairs(["checkpointed", "compiled"]))
def test_blocks_compiled_or_recomputed_learn_the_same(task, variant, runs):
    plain, changed = (logged(runs / "one" / task / kind, "train/") for kind in ("plain", variant))
    assert_close(plain, changed)


@pytest.fixture(scope="module")
def measured(runs, run_all) -> Path:
    """The folder in which a checkpoint of each task was measured by one process and by two."""
    commands: dict[str, list[list[str]]] = {}
    for strategy in STRATEGIES:
        commands[strategy] = []
        for task in known(runs):
            run = runs / "measured" / strategy / task / "plain"
            shutil.copytree(runs / "one" / task / "plain", run)
            best = ["--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
            commands[strategy] += [[name, *best, *on(strategy)] for name in EVALUATIONS]
    run_all(commands, "measure")
    return runs / "measured"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_measure_exactly_what_one_measures(task, evaluation, strategy, measured):
    one, two = (
        (measured / kind / task / "plain" / EVALUATIONS[evaluation]).read_text()
        for kind in ("one", strategy)
    )
    assert one == two


MOVES = [("one", "ddp"), ("ddp", "fsdp2"), ("fsdp2", "one")]


@pytest.fixture(scope="module")
def moved(runs, run_all) -> Path:
    """The folder in which runs of each strategy were gone on with, from the middle, by each other."""
    commands: dict[str, list[list[str]]] = {strategy: [] for strategy in STRATEGIES}
    for (begun, ended), task in product(MOVES, known(runs)):
        run = runs / "moved" / f"{begun}-{ended}" / task / "all"
        shutil.copytree(runs / begun / task / "all", run)
        saved = run / "checkpoints" / f"step-{SAVED:08d}.ckpt"
        for other in set((run / "checkpoints").glob("step-*.ckpt")) - {saved}:
            other.unlink()
        # What is said again is for the other devices; the run's own config says the rest.
        strategy = on(ended) if ended != "one" else [*on(ended), "--trainer.strategy=auto"]
        commands[ended].append(["resume", str(run), *strategy])
    run_all(commands, "move")
    return runs / "moved"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("begun", "ended"), MOVES)
def test_a_run_begun_on_some_devices_is_ended_on_others(task, begun, ended, moved, runs):
    one, two = (
        logged(run / task / "all", "train/loss")
        for run in (runs / "one", moved / f"{begun}-{ended}")
    )
    assert len(two) == STEPS
    assert_close(one, two)


def names(value: object, inside: str = "") -> Iterator[str]:
    """The keys of a nested dict, but for what numbers them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from names(inner, f"{inside}.{key}")
    yield inside


@pytest.mark.parametrize("task", TASKS)
def test_checkpoints_are_alike_whatever_wrote_them(task, runs):
    from tfzoo.training.checkpoint import read_checkpoint

    file = f"checkpoints/step-{STEPS:08d}.ckpt"
    one, *others = (
        read_checkpoint(runs / strategy / task / variant / file)
        for strategy, variant in product(STRATEGIES, ("plain", "all"))
    )
    for other in others:
        assert set(names(other["state_dict"])) == set(names(one["state_dict"]))
        for ours, theirs in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
            sizes = [
                [[s["state"][p]["exp_avg"].shape for p in g["params"]] for g in s["param_groups"]]
                for s in (ours, theirs)
            ]
            assert sizes[0] == sizes[1]


if __name__ == "__main__":
    served()
