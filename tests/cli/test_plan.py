"""`tfzoo plan`: every experiment can be planned without its data, and mistakes are told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfzoo.cli.main import main

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
SMALL = ["--model.backbone.depth=1", "--model.backbone.dim=32", "--model.backbone.heads=2"]
WIKITEXT = f"-c={ROOT / 'experiments/generation/wikitext103.yaml'}"
DDP = f"-c={ROOT / 'configs/trainer/ddp.yaml'}"


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What the command says as JSON."""
    monkeypatch.setattr("socket.socket.connect", None)  # no hub is asked

    def told(*arguments: str) -> dict[str, Any]:
        assert main(["plan", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return told


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said.removeprefix("tfzoo: error: ").strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment", EXPERIMENTS, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_an_experiment_is_planned_without_its_data(experiment: Path, plan: Any) -> None:
    small = (
        [] if "gpt2" in experiment.read_text() or "configs/" in experiment.read_text() else SMALL
    )
    told = plan(f"-c={experiment}", "--suppose", "--devices=2", "--device=a100", *small)
    assert told["supposed"]
    assert told["parameters"] > 1000
    assert told["training_flops"] > 2 * told["forward_flops"] > 0
    assert [row["strategy"] for row in told["memory"]] == ["DDP", "DDP", "FSDP", "FSDP"]
    assert all(row["activations"] > 0 for row in told["memory"])
    assert told["seconds"] > 0


@pytest.mark.slow
def test_gpt2_small_by_hand(plan: Any) -> None:
    told = plan(WIKITEXT, DDP, "--devices=64", "--device=h100 sxm", "--device-memory=80GB")
    assert told["parameters"] == 124_439_808
    # 6 for each weight but the positions', and 12 L D T for attention (Chowdhery et al. 2022, appendix B).
    by_hand = 6 * (told["parameters"] - 1024 * 768) + 12 * 12 * 768 * 1024
    assert told["training_flops"] == pytest.approx(by_hand, rel=0.01)
    assert told["step"] == 64 * 8 * 1024
    assert told["total"] == 22500 * told["step"]
    assert told["seconds"] == pytest.approx(
        told["total"] * told["training_flops"] / (64 * 989.4e12 * 0.4)
    )
    ddp = told["memory"][0]
    assert ddp["gradients"] == 4 * told["parameters"]
    assert ddp["exchange"] == 0  # they are views into their buckets
    assert ddp["fits"] == "yes"
    assert told["validations"] == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["Translation", "TextClassification", "ImageClassification", "Generation"]
)
def test_data_that_is_here_is_read(task: str, experiment: Any, plan: Any) -> None:
    config = f"-c={experiment(task)}"
    told = plan(config)
    assert told["supposed"] is None
    assert told["job"]["devices"] == 1
    assert told["total"] == told["step"] * 2
    assert told["per_second"] is None
    # The vocabulary of a few words is smaller than the 8,000 that might have been.
    if task != "ImageClassification":
        assert told["parameters"] < plan(config, "--suppose")["parameters"]


def test_epochs_are_counted_where_the_data_is_read(experiment: Any, plan: Any) -> None:
    config = f"-c={experiment('ImageClassification')}"
    epochs = ["--trainer.max_steps=-1", "--trainer.max_epochs=3", "--data.batch_size=1"]
    assert plan(config, *epochs, "--devices=2")["job"]["steps"] == 6  # 4 images
    assert plan(config, *epochs, "--suppose")["job"]["steps"] is None


@pytest.mark.parametrize(
    ("said", "devices"), [("2", 2), ("[0,3]", 2), ("0,1,5", 3), ("auto", 1), ("-1", 1)]
)
def test_devices_are_counted_as_a_trainer_counts_them(said, devices, experiment, plan) -> None:
    told = plan(f"-c={experiment('Generation')}", f"--trainer.devices={said}")
    assert told["job"]["devices"] == devices


@pytest.mark.slow
def test_averaged_weights_are_held_twice(plan: Any) -> None:
    digits = f"-c={ROOT / 'experiments/image_classification/digits.yaml'}"
    twice = plan(digits, "--suppose")
    once = plan(digits, "--suppose", "--trainer.callbacks=null")
    assert twice["memory"][0]["weights"] == 2 * once["memory"][0]["weights"]


def test_a_person_can_read_it(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = f"-c={experiment('Generation')}"
    flags = ["--devices=4", "--device-memory=80GB", "--trainer.max_steps=-1"]
    assert main(["plan", config, *flags, "--suppose"]) == 0
    said = capsys.readouterr().out
    assert "parameters, 32-true" in said
    assert "  checkpointed" in said
    assert "…" not in said  # no column is cut
    assert "speed: say --device or --device-flops" in said
    assert "run: how long it is cannot be told, set trainer.max_steps" in said
    assert "supposed, for the data was not read: a vocabulary of 8,000 tokens" in said
    assert max(map(len, said.splitlines()[5:12])) <= 90


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "plan needs an experiment: tfzoo plan -c "),
        ([WIKITEXT, "--devices=0"], "--devices must be at least 1, not 0"),
        ([WIKITEXT, "--devices=many"], "argument --devices: invalid int value: 'many'"),
        ([WIKITEXT, "--device-memory=80"], "a memory size is written like 80GB, 80GiB or"),
        ([WIKITEXT, "--device=h100"], "no device 'h100' is known; nearest are h100"),
        ([WIKITEXT, "--utilisation=40"], "--utilisation must be above 0 and at most 1, not 40.0"),
        ([WIKITEXT, "--device-flops=0"], "--device-flops must be above 0, not 0.0"),
        ([WIKITEXT, "--trainer.devices=0"], "devices must be at least 1, not 0"),
        ([WIKITEXT, "--batches_per_step=0"], "batches_per_step must be at least 1, not 0"),
        (
            [WIKITEXT, "--trainer.accumulate_grad_batches=0"],
            "accumulate_grad_batches must be at least 1, not 0",
        ),
        (
            [WIKITEXT, "--trainer.accumulate_grad_batches=4", "--batches_per_step=8"],
            "batches_per_step and trainer.accumulate_grad_batches say the same",
        ),
        ([WIKITEXT, "--model.backbone.heads=5"], "heads must divide dim"),
        ([WIKITEXT, "--devcies=4"], "plan has no --devcies, did you mean 'devices'?"),
        ([WIKITEXT, "--data=./nowhere"], "file or folder ./nowhere: --suppose plans without it"),
        (
            [WIKITEXT, "--trainer.max_step=3"],
            "trainer has no 'max_step', did you mean 'max_steps'?",
        ),
    ],
)
def test_mistakes(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in wrong(capsys, *arguments)


def test_classes_of_data_that_is_read(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = f"-c={experiment('TextClassification')}"
    assert "--classes is for data that is not read" in wrong(capsys, config, "--classes=3")
