"""What a training notes of its pace: counts and seconds, of training alone, that outlive it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from tfzoo.tracking import provenance
from tfzoo.tracking.runs import Run
from tfzoo.training import pace
from tfzoo.training.pace import Pace
from tfzoo.training.step_mean import StepMean


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(pace.time, "monotonic", lambda: now.seconds)
    return now


def noted(run: Run) -> dict:
    return json.loads((run.folder / "provenance.json").read_text())[-1]["pace"]


def test_seconds_of_validation_are_not_of_training_and_notes_are_seldom(tmp_path, clock):
    run = Run(tmp_path)
    provenance.append(run, {"started": "2026-11-24T20:00:00+00:00"})
    trainer = SimpleNamespace(global_step=0, default_root_dir=tmp_path, is_global_zero=True)
    task = SimpleNamespace(step_mean=StepMean(), counted="tokens")
    watch = Pace()
    watch.on_validation_start(trainer, task)  # tried out before training
    watch.on_validation_end(trainer, task)
    watch.on_train_start(trainer, task)

    def step(seconds: float) -> None:
        watch.on_train_batch_start(trainer)
        clock.seconds += seconds
        task.step_mean.add(torch.tensor(8.0), torch.tensor(4), 1)
        task.step_mean.close([], 1)
        trainer.global_step += 1
        watch.on_train_batch_end(trainer, task)

    step(2)
    assert (noted(run)["step"], noted(run)["count"], noted(run)["seconds"]) == (1, 4, 2)
    step(2)
    assert noted(run)["step"] == 1
    watch.on_validation_start(trainer, task)
    clock.seconds += 100
    watch.on_validation_end(trainer, task)
    assert (noted(run)["step"], noted(run)["seconds"]) == (2, 4)
    clock.seconds += 50  # a checkpoint is written
    step(2)
    step(11)
    assert noted(run) | {"time": ""} == {
        "time": "",
        "step": 4,
        "counted": "tokens",
        "count": 16,
        "seconds": 17,
    }
    (tmp_path / "provenance.json").unlink()  # whatever becomes of the file, training goes on
    watch.on_train_end(trainer, task)


@pytest.mark.parametrize(
    ("task", "counted"),
    [("Generation", "tokens"), ("TextClassification", "texts"), ("ImageClassification", "images")],
)
def test_a_run_tells_its_parameters_and_what_it_got_through(trained, task, counted):
    (life,) = json.loads((trained(task) / "provenance.json").read_text())
    assert life["parameters"] > 10_000
    assert (life["pace"]["step"], life["pace"]["counted"]) == (2, counted)
    assert life["pace"]["count"] >= 2
    assert life["pace"]["seconds"] > 0
    # Times never go where a resumed run must read as one that was never stopped.
    head = (trained(task) / "metrics.csv").read_text().splitlines()[0]
    assert "second" not in head
