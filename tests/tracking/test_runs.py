"""A run's folder is its own, its id is stable, and what was cut short is never taken for whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tfzoo.tracking.runs import (
    RUN_ID,
    new_run,
    newest_checkpoint,
    numbered,
    remove,
    run_of,
    write_whole,
)

LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", RUN_ID)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for key in list(os.environ):
        if key.startswith(LAUNCHERS):
            monkeypatch.delenv(key)
    monkeypatch.setenv(RUN_ID, "of-an-outer-run")  # restored afterwards: new_run sets it


def checkpoint(path: Path, age: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x" * 1000)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_runs_of_one_second_never_share(tmp_path):
    runs = [new_run(tmp_path, "shakespeare") for _ in range(200)]
    assert len({run.id for run in runs}) == 200
    assert all(run.folder.is_dir() and run.experiment == "shakespeare" for run in runs)


def test_a_given_id_goes_on_in_its_folder(tmp_path):
    first = new_run(tmp_path, "digits", "baseline")
    first.config_file.write_text("seed_everything: 1")
    assert new_run(tmp_path, "digits", "baseline").config_file.read_text() == "seed_everything: 1"


def test_the_id_reaches_processes_started_later(tmp_path, monkeypatch):
    run = new_run(tmp_path, "digits")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_run(tmp_path, "digits") == run


def test_a_run_started_from_within_a_run_is_its_own(tmp_path):
    outer = new_run(tmp_path, "digits")
    code = "import sys; from pathlib import Path; from tfzoo.tracking.runs import new_run; print(new_run(Path(sys.argv[1]), 'digits').id)"
    inner = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert inner.stdout.strip() != outer.id


def test_a_requeued_job_keeps_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "812")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert new_run(tmp_path, "digits").id == "812"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "810")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert new_run(tmp_path, "digits").id == "810_2"
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert new_run(tmp_path, "digits").id != new_run(tmp_path, "digits").id


def test_processes_that_cannot_agree_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="torchrun --standalone"):
        new_run(tmp_path, "digits")
    assert new_run(tmp_path, "digits", "mine").id == "mine"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "5f6c9a")
    assert new_run(tmp_path, "digits").id == "5f6c9a"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", ".hidden", "a b", "a\n"])
def test_names_that_are_no_folders(tmp_path, name):
    with pytest.raises(ValueError, match="must be a folder's name"):
        new_run(tmp_path, name)
    with pytest.raises(ValueError, match="must be a folder's name"):
        new_run(tmp_path, "digits", name)


def test_an_unwritable_root_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"no run folder can be made in {tmp_path / 'file'}"):
        new_run(tmp_path / "file", "digits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="choose a folder that you can write to"):
        new_run(tmp_path, "digits")
    tmp_path.chmod(0o700)


def test_run_of_a_checkpoint_or_figure(tmp_path):
    run = new_run(tmp_path, "digits")
    path = checkpoint(run.checkpoints / "last.ckpt")
    assert run_of(path) == run_of(run.folder) == run_of(run.checkpoints) == run
    with pytest.raises(ValueError, match="belongs to no run"):
        run_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing at"):
        run_of(run.checkpoints / "missing.ckpt")


def test_newest_checkpoint_is_whole(tmp_path):
    run = new_run(tmp_path, "digits")
    assert newest_checkpoint(run) is None
    checkpoint(run.checkpoints / "best.ckpt")
    assert newest_checkpoint(run) is None  # it is no state to go on from exactly
    old = checkpoint(run.checkpoints / "step=10.ckpt", age=60)
    assert newest_checkpoint(run) == old
    cut = checkpoint(run.checkpoints / "step=20.ckpt")
    cut.write_bytes(cut.read_bytes()[:-30])
    (run.checkpoints / "step=30.ckpt").mkdir()  # shards without metadata
    assert newest_checkpoint(run) == old
    (run.checkpoints / "step=30.ckpt" / ".metadata").write_bytes(b"")
    assert newest_checkpoint(run).name == "step=30.ckpt"


def test_of_numbered_checkpoints_the_one_written_last_is_the_newest(tmp_path):
    run = new_run(tmp_path, "digits")
    ages = {"step-00000008": 1000, "step-00000009": 1000, "step-00000010": 900, "best": 2000}
    for name, age in ages.items():
        os.utime(checkpoint(run.checkpoints / f"{name}.ckpt"), (age, age))
    assert [p.stem for p in numbered(run.checkpoints)] == [
        "step-00000009",
        "step-00000008",
        "step-00000010",
    ]
    assert newest_checkpoint(run).name == "step-00000009.ckpt"
    remove(run.checkpoints / "step-00000009.ckpt")
    assert newest_checkpoint(run).name == "step-00000008.ckpt"
    shards = run.checkpoints / "step-11.ckpt"
    shards.mkdir()
    (shards / ".metadata").write_bytes(b"")
    remove(shards)
    assert not shards.exists()


def test_a_checkpoint_that_is_removed_meanwhile_is_passed_over(tmp_path, monkeypatch):
    run = new_run(tmp_path, "digits")
    kept = checkpoint(run.checkpoints / "step-00000001.ckpt", age=60)
    gone = checkpoint(run.checkpoints / "step-00000002.ckpt")
    usual = Path.stat

    def stat(path, **more):
        if path == gone:
            gone.unlink(missing_ok=True)
        return usual(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    assert newest_checkpoint(run) == kept


def test_write_whole_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "new" / "picture.png"
    write_whole(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]


def test_runs_imports_no_torch():
    code = "import sys, tfzoo.tracking.runs, tfzoo.tracking.figures, tfzoo.tracking.samples; print([m for m in ('torch', 'lightning', 'matplotlib', 'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
