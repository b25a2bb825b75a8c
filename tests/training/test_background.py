"""Training goes on while a checkpoint is written, and changes nothing of it; an error is told, and takes nothing away."""

import itertools
import json
import threading
import time
from pathlib import Path

import pytest
import torch

from tfzoo.cli import main
from tfzoo.tracking.runs import Run, newest_checkpoint
from tfzoo.training.background import BackgroundCheckpointIO
from tfzoo.training.checkpoint import read_checkpoint

USUAL = torch.save
PLUGINS = ["BackgroundCheckpointIO", "lightning.pytorch.plugins.io.AsyncCheckpointIO"]


def checkpoint(step: int) -> dict:
    return {"state_dict": {"weight": torch.full((3,), float(step))}, "global_step": step}


@pytest.fixture
def held(monkeypatch):
    """Nothing is written until this event is set."""
    event = threading.Event()

    def save(*arguments):
        assert event.wait(30)
        USUAL(*arguments)

    monkeypatch.setattr(torch, "save", save)
    yield event
    event.set()


def fit(experiment, folder: Path, *flags: str) -> int:
    file = experiment("TextClassification")
    return main(["fit", "-c", str(file), f"--runs={folder}", "--run_id=1", *flags])


def test_what_is_saved_is_what_was_when_it_was_asked_for(held, tmp_path):
    io, state = BackgroundCheckpointIO(), checkpoint(1)
    io.save_checkpoint(state, tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()
    state["state_dict"]["weight"].zero_()
    state["state_dict"]["more"] = 1
    held.set()
    io.teardown()
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert found["state_dict"].keys() == {"weight"}
    assert found["state_dict"]["weight"].tolist() == [1, 1, 1]
    io.save_checkpoint(checkpoint(2), tmp_path / "a.ckpt")  # a trainer may fit again
    io.teardown()
    assert read_checkpoint(tmp_path / "a.ckpt")["global_step"] == 2


def test_tied_weights_are_written_once(tmp_path):
    io, weight = BackgroundCheckpointIO(), torch.randn(100, 100)
    state = {"a": weight, "tied": weight.detach(), "turned": weight.t(), "none": weight[:0]}
    io.save_checkpoint({"state_dict": state}, tmp_path / "a.ckpt")
    io.teardown()
    found = read_checkpoint(tmp_path / "a.ckpt")["state_dict"]
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert found["a"].data_ptr() == found["tied"].data_ptr()


def test_at_most_two_copies_wait(held, tmp_path):
    io = BackgroundCheckpointIO()

    def save_three():
        for step in range(3):
            io.save_checkpoint(checkpoint(step), tmp_path / f"{step}.ckpt")

    saving = threading.Thread(target=save_three, daemon=True)
    saving.start()
    saving.join(0.3)
    assert saving.is_alive()
    held.set()
    saving.join(30)
    io.teardown()
    assert len(list(tmp_path.iterdir())) == 3


def test_an_older_one_goes_only_when_the_newer_is_written(tmp_path, monkeypatch):
    io = BackgroundCheckpointIO()
    io.save_checkpoint(checkpoint(1), tmp_path / "old.ckpt")
    io.teardown()
    monkeypatch.setattr(torch, "save", full)
    io.save_checkpoint(checkpoint(2), tmp_path / "new.ckpt")
    io.remove_checkpoint(tmp_path / "old.ckpt")
    with pytest.raises(OSError, match=r"cannot save the checkpoint .*new\.ckpt: No space left"):
        io.teardown()
    assert [file.name for file in tmp_path.iterdir()] == ["old.ckpt"]
    io.teardown()  # told once
    monkeypatch.setattr(torch, "save", USUAL)
    io.save_checkpoint(checkpoint(2), tmp_path / "new.ckpt")
    io.remove_checkpoint(tmp_path / "old.ckpt")
    io.teardown()
    assert [file.name for file in tmp_path.iterdir()] == ["new.ckpt"]


def full(checkpoint, file, *_):
    file.write(b"a part")
    raise OSError(28, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_disk_that_fills_up_ends_the_run_in_one_line(
    plugin, experiment, tmp_path, monkeypatch, capsys
):
    def save(checkpoint, *rest):
        (full if checkpoint["global_step"] > 2 else USUAL)(checkpoint, *rest)

    monkeypatch.setattr(torch, "save", save)
    flags = [f"--trainer.plugins={plugin}", "--trainer.max_steps=40"]
    assert fit(experiment, tmp_path, *flags, "--trainer.limit_val_batches=1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfzoo: error: cannot save the checkpoint ")
    assert "No space left on device" in line
    (run,) = tmp_path.glob("*/*")
    newest = newest_checkpoint(Run(run))
    assert newest is not None
    assert newest.name == "step-00000002.ckpt"
    assert all(read_checkpoint(file)["global_step"] <= 2 for file in newest.parent.glob("*.ckpt"))
    steps = [line.partition(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
    assert int(steps[-1]) < 10  # it does not train on for long with nothing kept of it


def steps_of_whole_ones(folder: Path) -> set[int]:
    """Looked for again where one is gone: training goes on, and may remove it while it is read."""
    while True:
        paths = list(folder.glob("step-*.ckpt"))
        try:
            return {read_checkpoint(path)["global_step"] for path in paths}
        except (FileNotFoundError, ValueError):
            if all(path.exists() for path in paths):
                raise


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS)
def test_older_ones_stay_until_the_newer_is_whole_and_the_last_is_waited_for(
    plugin, experiment, tmp_path, monkeypatch
):
    seen = []

    def save(checkpoint, file, *rest):
        time.sleep(0.05)
        seen.append(steps_of_whole_ones(Path(file.name).parent))
        USUAL(checkpoint, file, *rest)

    monkeypatch.setattr(torch, "save", save)
    last = {"class_path": "Last", "init_args": {"every_n_steps": 1, "keep": 1}}
    callbacks = f"--trainer.callbacks={json.dumps([last])}"
    flags = [f"--trainer.plugins={plugin}", "--trainer.max_steps=6", callbacks]
    assert fit(experiment, tmp_path, *flags) == 0
    since_the_first = list(itertools.dropwhile(lambda steps: not steps, seen))
    assert since_the_first, seen
    assert all(since_the_first), seen  # never a moment without
    (run,) = tmp_path.glob("*/*")
    assert [p.name for p in (run / "checkpoints").iterdir() if "step" in p.name] == [
        "step-00000006.ckpt"
    ]
    assert (run / "checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_what_was_saved_before_another_error_is_kept(experiment, tmp_path, monkeypatch, capsys):
    from tfzoo.tasks import TextClassification

    usual = TextClassification.training_step

    def step(task, batch, index):
        if task.trainer.global_step == 3:
            raise ValueError("something else is wrong")
        return usual(task, batch, index)

    def save(*arguments):
        time.sleep(0.3)
        USUAL(*arguments)

    monkeypatch.setattr(TextClassification, "training_step", step)
    monkeypatch.setattr(torch, "save", save)
    flags = ["--trainer.plugins=BackgroundCheckpointIO", "--trainer.max_steps=6"]
    assert fit(experiment, tmp_path, *flags) == 2
    assert "something else is wrong" in capsys.readouterr().err
    (run,) = tmp_path.glob("*/*")
    newest = newest_checkpoint(Run(run))
    assert newest is not None
    assert newest.name == "step-00000003.ckpt"
    assert not list((run / "checkpoints").glob(".*"))
