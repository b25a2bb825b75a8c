"""Two processes learn what one does from the same batches, whole or sharded, and measure exactly what one measures."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = 50
TASKS = {
    "Translation": ["--data.batch_tokens=96"],
    "TextClassification": ["--data.batch_tokens=96"],
    "ImageClassification": ["--data.batch_size=1"],
    "Generation": ["--data.context=16", "--data.batch_size=3"],
}
DDP = ["--trainer.strategy=ddp"]
FSDP = ["--trainer.strategy=fsdp2"]
COMPILE, CHECKPOINT = "CompileBlocks", "CheckpointBlocks"
VARIANTS = {
    "plain": (2, []),
    "accumulated": (4, []),
    "checkpointed": (2, [CHECKPOINT]),
    "compiled": (2, [COMPILE]),
    "all of it": (4, [CHECKPOINT, COMPILE]),
}


def flags(task: str, variant: str) -> list[str]:
    batches, callbacks = VARIANTS[variant]
    return [
        *TASKS[task],
        f"--batches_per_step={batches}",
        f"--trainer.max_steps={STEPS}",
        "--trainer.val_check_interval=40",
        "--trainer.log_every_n_steps=1",
        *([f"--trainer.callbacks={json.dumps([{'class_path': c} for c in callbacks])}"] * bool(callbacks)),
    ]


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def losses(run: Path) -> list[float]:
    return [float(row["train/loss"]) for row in metrics(run) if row["train/loss"]]


def served(commands: Path) -> None:
    """Runs every command of a file of JSON lines, in this process: as one of two where LOCAL_RANK says so."""
    from tfzoo.cli import main

    for line in commands.read_text().splitlines():
        code = main(json.loads(line))
        print(code, flush=True)
        assert code == 0, line


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_all(commands: list[list[str]], folder: Path, processes: int) -> None:
    """Runs the commands one after the other, each on so many processes."""
    file = folder / f"commands-{processes}"
    file.write_text("".join(json.dumps(command) + "\n" for command in commands))
    alike = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(file)],
            env=alike | ({"LOCAL_RANK": str(rank)} if processes > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        said = [process.communicate(timeout=500)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, "\n".join(said)


if __name__ == "__main__":
    served(Path(sys.argv[1]))
