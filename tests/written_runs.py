"""Run folders written by hand, as trainings leave them."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import yaml

from tfzoo.tracking.runs import Run

LIFE: dict[str, Any] = {
    "started": "2026-11-24T20:00:00+00:00",
    "git": {"commit": "0123456789abcdef", "changed": False},
    "versions": {"torch": "2.13.0", "tfzoo": "0.1.0"},
    "best": {"metric": "val/loss", "mode": "min"},
    "parameters": 1_234_567,
    "pace": {
        "time": "2026-11-24T20:01:00+00:00",
        "step": 20,
        "counted": "tokens",
        "count": 50_000,
        "seconds": 50.0,
    },
    "ended": {"time": "2026-11-24T20:02:00+00:00", "how": "finished", "step": 20},
}


def config(task: str = "Generation", seed: int = 1, **backbone: Any) -> dict[str, Any]:
    return {
        "seed_everything": seed,
        "trainer": {
            "callbacks": [
                {"class_path": "tfzoo.training.last.Last", "init_args": {"keep": 2}},
            ],
            "max_steps": 20,
            "precision": None,
        },
        "model": {
            "class_path": f"tfzoo.tasks.{task}",
            "init_args": {
                "backbone": {"dim": 32, "depth": 2, "positions": "sinusoidal"} | backbone
            },
        },
        "data": {
            "class_path": f"tfzoo.data.{task}Data",
            "init_args": {"path": "shakespeare", "cache_dir": "/somewhere"},
        },
        "runs": "runs",
    }


def write_run(
    root: Path,
    name: str,
    losses: dict[int, float],
    settings: dict[str, Any] | None = None,
    metric: str = "val/loss",
    lives: list[dict[str, Any]] | None = None,
) -> Run:
    """A run `EXPERIMENT/ID`, with the values of a metric after so many steps, and training losses twice as high."""
    run = Run(root / name)
    run.folder.mkdir(parents=True)
    rows = [f"{step - 1},{2 * value},\n{step - 1},,{value}\n" for step, value in losses.items()]
    run.metrics_file.write_text(f"step,train/loss,{metric}\n" + "".join(rows))
    run.config_file.write_text(yaml.safe_dump(settings or config(), sort_keys=False))
    text = json.dumps([LIFE] if lives is None else lives)
    (run.folder / "provenance.json").write_text(text)
    return run


def kill(run: Run) -> None:
    """Let a run be as kill -9 leaves one: half a last line, no end, and still the sign of who trained there."""
    with run.metrics_file.open("a") as file:
        file.write("99,0.")
    file = run.folder / "provenance.json"
    lives = json.loads(file.read_text())
    lives[-1].pop("ended")
    file.write_text(json.dumps(lives))
    (run.folder / "running.json").write_text(
        json.dumps(
            {"host": platform.node(), "pid": 1, "job": None, "restarts": 0, "since": "2026-11-24"}
        )
    )
