"""How long `tfzoo runs` and `tfzoo compare` take over 1,000 runs of 500 rows: wall time of whole commands.

    python experiments/speed/many_runs.py [--runs 1000] [--rows 500] [--times 5]

The folders are as `tfzoo fit` leaves them: a whole config.yaml, metrics.csv with a validation every tenth row, and a
provenance.json of two lives; every tenth run was killed, and left half a line. They are made in a temporary folder.
Of the commands the best of several times counts: what else runs on the machine makes them slower, and nothing faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "the table": ["runs", "."],
    "sorted by a metric": ["runs", ".", "--sort", "val/loss"],
    "a setting as a filter": ["runs", ".", "--filter", "model.backbone.depth=4"],
    "a setting as a column": ["runs", ".", "--columns", "+model.backbone.depth"],
    "as JSON": ["runs", ".", "--json"],
    "as CSV": ["runs", ".", "--csv"],
    "two compared, by their ids": ["compare", "run-0123", "run-0789", "--runs", "."],
    "all compared": ["compare", "."],
    "all compared as a page": ["compare", ".", "--html", "page.html"],
}
TRAINER = 45
"""Lines of a trainer's settings, about as many as Lightning has."""


def config(number: int) -> str:
    trainer = "".join(f"  setting_{place}: null\n" for place in range(TRAINER))
    names = ("heads", "hidden", "norm", "norm_eps", "activation", "positions", "rotary_base")
    backbone = "".join(f"      {name}: {place}\n" for place, name in enumerate(names))
    data = "".join(f"    setting_{place}: {place}\n" for place in range(25))
    return (
        f"# lightning.pytorch==2.6.6\nseed_everything: {number}\ntrainer:\n{trainer}  max_steps: 5000\n"
        "  callbacks:\n  - class_path: lightning.pytorch.callbacks.EMAWeightAveraging\n"
        "    init_args:\n      decay: 0.99\n"
        "model:\n  class_path: tfzoo.tasks.Generation\n  init_args:\n    backbone:\n"
        f"      dim: 128\n      depth: {2 * (1 + number % 4)}\n{backbone}    tie: true\n"
        f"data:\n  class_path: tfzoo.data.GenerationData\n  init_args:\n{data}"
    )


def metrics(number: int, rows: int) -> str:
    lines = ["step,learning_rate,train/loss,epoch,val/loss,val/perplexity,val/accuracy"]
    for row in range(rows):
        loss = 5 / (1 + 0.01 * row) + number / 1000
        measured = f"{loss},{2**loss},{1 / loss}" if row % 10 == 9 else ",,"
        values = f",0.001,{loss},{row // 100},{measured}"
        lines.append(f"{10 * row + 9}{values}")
    return "\n".join(lines) + ("\n9,0." if number % 10 == 0 else "\n")


def provenance(number: int) -> str:
    life = {
        "started": "2026-11-24T20:00:00+00:00",
        "command": ["tfzoo", "fit"],
        "git": {"commit": f"{number:040x}", "changed": False},
        "versions": {f"package_{place}": "1.2.3" for place in range(16)},
        "job": None,
        "best": {"metric": "val/loss", "mode": "min"},
        "parameters": 1234567,
        "pace": {
            "time": "2026-11-24T20:30:00+00:00",
            "step": 5000,
            "counted": "tokens",
            "count": 10**8,
            "seconds": 1800.0,
        },
    }
    ended = {"time": "2026-11-24T20:31:00+00:00", "how": "finished", "step": 5000}
    return json.dumps([life, life | ({} if number % 10 == 0 else {"ended": ended})], indent=2)


def make(root: Path, runs: int, rows: int) -> None:
    for number in range(runs):
        folder = root / f"experiment-{number % 10}" / f"run-{number:04d}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config(number))
        (folder / "metrics.csv").write_text(metrics(number, rows))
        (folder / "provenance.json").write_text(provenance(number))
        if number % 10 == 0:
            (folder / "running.json").write_text(
                json.dumps(
                    {"host": platform.node(), "pid": 1, "job": None, "restarts": 0, "since": ""}
                )
            )


def seconds(command: list[str], folder: str, times: int) -> tuple[float, float]:
    """The best wall time, and that of the processor, of some."""
    walls, used = [], []
    for _ in range(times):
        before, began = os.times(), time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - began)
        after = os.times()
        used.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return min(walls), min(used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    program = [sys.executable, "-c", "import sys; from tfzoo.cli import main; sys.exit(main())"]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.runs, options.rows)
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        print(f"{options.runs} runs of {options.rows} rows; {os.cpu_count()} cores, load {load}")
        for name, flags in COMMANDS.items():
            wall, used = seconds([*program, *flags], folder, options.times)
            print(f"{name:<28} {wall:5.2f} s, of which {used:.2f} s of processor", flush=True)


if __name__ == "__main__":
    main()
