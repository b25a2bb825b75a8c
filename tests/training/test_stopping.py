"""A training that is asked to make room saves its step first; a person who asks twice is not kept waiting."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from lightning import Callback, Trainer

from tfzoo import signals
from tfzoo.cli import main


class Asks(Callback):
    """Signals come to this process in the middle of that step."""

    def __init__(self, step: int, signals: list[int]) -> None:
        self.step, self.signals = step, signals

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step - 1:
            for number in self.signals:
                os.kill(os.getpid(), number)


def asked(
    experiment, runs: Path, monkeypatch, *numbers: int, others: tuple[dict, ...] = ()
) -> tuple[int, Path]:
    """The exit code of a training that is asked in its third step, and its run's folder.

    others: callbacks.
    """
    import disasters

    monkeypatch.setattr(disasters, "Asks", Asks, raising=False)
    asks = {"class_path": "disasters.Asks", "init_args": {"step": 3, "signals": list(numbers)}}
    flags = [f"--runs={runs}", "--run_id=1", "--trainer.max_steps=9", "--data.workers=1"]
    flags.append("--trainer.val_check_interval=9")
    code = main(
        [
            "fit",
            "-c",
            str(experiment("Generation")),
            *flags,
            f"--trainer.callbacks={json.dumps([asks, *others])}",
        ]
    )
    return code, runs / "generation" / "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR2, 75)]
)
def test_a_training_that_is_asked_saves_its_step(
    number, code, experiment, tmp_path, monkeypatch, capfd
):
    ended, run = asked(experiment, tmp_path, monkeypatch, number)
    assert ended == code
    told = capfd.readouterr().err.splitlines()[-1]
    assert told.startswith(f"tfzoo: {number.name}: stopped; step 3 is saved")
    assert told.endswith(f"tfzoo resume {run} goes on") == (number != signal.SIGUSR2)
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["step-00000003.ckpt"]
    assert json.loads((run / "provenance.json").read_text())[-1]["ended"]["how"] == "stopped"
    assert main(["resume", str(run), "--trainer.callbacks=null"]) == 0
    assert json.loads((run / "provenance.json").read_text())[-1]["resumed"]["step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 100])
def test_whoever_interrupts_twice_does_not_wait(every, experiment, tmp_path, monkeypatch, capfd):
    last = {"class_path": "Last", "init_args": {"every_n_steps": every}}
    twice = signal.SIGINT, signal.SIGINT
    ended, run = asked(experiment, tmp_path, monkeypatch, *twice, others=(last,))
    assert ended == 130
    told = capfd.readouterr().err
    assert "stopping at this step's end" in told
    way = f"; tfzoo resume {run} goes on from step-00000001.ckpt" if every == 1 else ""
    assert told.splitlines()[-1] == f"tfzoo: interrupted{way}"
    assert not (run / "running.json").exists()
    assert json.loads((run / "provenance.json").read_text())[-1]["ended"]["how"] == "interrupted"


class AsksToo(Callback):
    """SIGTERM comes in the midst of a measurement."""

    heard: object = None

    def on_validation_batch_start(self, *_: object) -> None:
        AsksToo.heard = signal.getsignal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("validate", "validation.json"),
        ("test", "test.json"),
        ("predict", "predictions.jsonl"),
    ],
)
def test_a_measurement_that_is_asked_ends_at_once(
    command, written, trained, tmp_path, monkeypatch, capfd
):
    import disasters

    monkeypatch.setattr(disasters, "AsksToo", AsksToo, raising=False)
    run = tmp_path / "runs" / "generation" / "1"
    shutil.copytree(trained("Generation"), run)
    asks = json.dumps([{"class_path": "disasters.AsksToo"}])
    checkpoint = run / "checkpoints/best.ckpt"
    (run / written).unlink(missing_ok=True)
    capfd.readouterr()
    assert main([command, f"--ckpt_path={checkpoint}", f"--trainer.callbacks={asks}"]) == 143
    assert capfd.readouterr().err.splitlines()[-1] == "tfzoo: SIGTERM: stopped; nothing was written"
    assert not (run / written).exists()
    assert AsksToo.heard is signals._receive  # not Lightning's, which would talk to other processes
