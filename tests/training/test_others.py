"""A training of several processes ends as a whole when the first of them fails, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest

from tfzoo.tracking.runs import numbered

PROGRAM = "import sys; from tfzoo.cli import main; sys.exit(main())"
pytestmark = pytest.mark.slow


def failing(
    experiment: Any, folder: Path, *more: str, run: Callable = subprocess.run, **how: Any
) -> tuple[int, str, list[Path]]:
    """The code of a training on two processes that fails after two steps, what it said, and its checkpoints."""
    program, pids = folder / "program.py", folder / "pids"
    program.write_text(PROGRAM)
    pids.mkdir()
    callbacks = [
        {
            "class_path": "disasters.ProcessesFail",
            "init_args": {"step": 2, "folder": str(pids), **how},
        },
        {"class_path": "Last", "init_args": {"every_n_steps": 2}},
    ]
    said = folder / "said"
    with said.open("w") as to:
        done = run(
            [
                *[sys.executable, program, "fit", "-c", experiment("TextClassification")],
                *[f"--runs={folder}", "--experiment=e", "--run_id=1"],
                *["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_steps=9"],
                *["--trainer.val_check_interval=9", f"--trainer.callbacks={json.dumps(callbacks)}"],
                *["--data.batch_tokens=96", *more],
            ],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            stdout=to,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
    processes = [int(file.name) for file in pids.iterdir()]
    assert len(processes) == 2
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    return done.returncode, said.read_text(), numbered(folder / "e/1/checkpoints")


def test_the_others_end_with_the_first_and_say_nothing(experiment, tmp_path):
    code, said, saved = failing(experiment, tmp_path, ranks=[0])
    assert code == 2
    assert said.count("tfzoo: error: something is wrong at step 2; tfzoo resume ") == 1
    assert "Traceback" not in said
    assert [file.name for file in saved] == ["step-00000002.ckpt"]


def test_where_all_fail_the_first_still_writes_what_it_has_saved(experiment, tmp_path):
    background = "--trainer.plugins=BackgroundCheckpointIO"
    code, said, saved = failing(
        experiment, tmp_path, background, run=forked.run, ranks=[0, 1], saving=12.0
    )
    assert code == 2, said
    assert "tfzoo: error: something is wrong at step 2" in said
    assert [file.name for file in saved] == ["step-00000002.ckpt"]
