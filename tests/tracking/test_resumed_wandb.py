"""A run that goes on is the same run of W&B's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RESUME = "import sys; from tfzoo.cli import main; sys.exit(main(['resume', *sys.argv[1:]]))"


@pytest.mark.slow
def test_a_resumed_run_keeps_its_id(trained, tmp_path):
    run = Path(shutil.copytree(trained("TextClassification"), tmp_path / "runs/x/1"))
    # No service of another test's, and no account.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_MODE": "offline"}
    for steps in (3, 4):
        flags = ["--trainer.logger=tfzoo.tracking.loggers.WandbLogger"]
        command = [sys.executable, "-c", RESUME, run, f"--trainer.max_steps={steps}", *flags]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    folders = list(run.glob("wandb/offline-run-*"))
    assert folders
    for folder in folders:
        assert b"provenance" in (folder / "run-x-1.wandb").read_bytes()
        assert folder.name.endswith("-x-1")
