"""A run's folder may lie elsewhere when it goes on: the best stays the best, and the old place is left alone."""

import csv
import shutil
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from tfzoo.cli import main
from tfzoo.training.checkpoint import read_checkpoint
from tfzoo.training.moved import at_home


def losses(run: Path) -> dict[int, float]:
    with (run / "metrics.csv").open() as file:
        return {int(r["step"]): float(r["val/loss"]) for r in csv.DictReader(file) if r["val/loss"]}


def everything(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


@pytest.mark.slow
@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_the_best_checkpoint_stays_the_best(how, experiment, tmp_path):
    arguments = ["fit", "-c", str(experiment("Generation")), f"--runs={tmp_path / 'runs'}"]
    # Uphill: each validation is worse than the one before.
    uphill = ["--model.optimizer=SGD", "--model.optimizer.lr=1", "--model.optimizer.maximize=true"]
    assert main([*arguments, *uphill]) == 0
    (old,) = tmp_path.glob("runs/*/*")
    new = tmp_path / "elsewhere/generation/1"
    new.parent.mkdir(parents=True)
    how(old, new)
    best = (new / "checkpoints/best.ckpt").stat().st_mtime_ns
    before = everything(tmp_path / "runs")
    assert main(["resume", str(new), "--trainer.max_steps=4"]) == 0
    found = losses(new)
    assert min(found, key=found.get) == 0
    assert read_checkpoint(new / "checkpoints/best.ckpt")["global_step"] == 1
    assert (new / "checkpoints/best.ckpt").stat().st_mtime_ns == best
    assert everything(tmp_path / "runs") == before
    state = read_checkpoint(new / "checkpoints/step-00000004.ckpt")["callbacks"]
    (state,) = (value for key, value in state.items() if key.startswith("ModelCheckpoint"))
    assert state["dirpath"] == str(new / "checkpoints")
    assert float(state["best_model_score"]) == pytest.approx(found[0])


def test_a_state_without_its_files_is_left_as_it_is(tmp_path):
    home = tmp_path / "new"
    home.mkdir()
    callback = ModelCheckpoint(home, monitor="val/loss")
    state = {
        "dirpath": "/old",
        "best_model_path": "/old/a.ckpt",
        "kth_best_model_path": "/old/b.ckpt",
        "last_model_path": "",
        "best_k_models": {"/old/a.ckpt": 1.0, "/old/b.ckpt": 2.0},
    }
    assert at_home(state, callback) is state
    (home / "a.ckpt").touch()
    assert at_home(state, callback) is state
    (home / "b.ckpt").touch()
    assert at_home(state, callback) == {
        "dirpath": str(home),
        "best_model_path": str(home / "a.ckpt"),
        "kth_best_model_path": str(home / "b.ckpt"),
        "last_model_path": "",
        "best_k_models": {str(home / "a.ckpt"): 1.0, str(home / "b.ckpt"): 2.0},
    }
    assert at_home({"dirpath": str(home)}, callback) == {"dirpath": str(home)}
