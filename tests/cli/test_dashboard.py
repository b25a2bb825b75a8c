"""The dashboard's records of real trainings, and `tfzoo dashboard` itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tfzoo.cli import main
from tfzoo.tracking.records import read

TRACKIO = "--trainer.logger+=tfzoo.tracking.trackio_logger.TrackioLogger"


def records(run: Path) -> list[dict]:
    return read(run / "trackio" / "records.jsonl")


def fit(experiment: Path, runs: Path, *arguments: str) -> Path:
    begin = ["fit", "-c", str(experiment), "--runs", str(runs), "--run_id=1", TRACKIO]
    assert main([*begin, "--trainer.log_every_n_steps=1", *arguments]) == 0
    return runs / experiment.stem / "1"


@pytest.mark.slow
def test_a_run_and_its_going_on_are_one_run(experiment, tmp_path):
    run = fit(experiment("TextClassification"), tmp_path)
    assert main(["resume", str(run), "--trainer.max_steps=4"]) == 0
    found = records(run)
    assert {(r["run"], r["run_id"]) for r in found} == {("textclassification/1",) * 2}
    assert [r["step"] for r in found if "train/loss" in r["metrics"]] == [0, 1, 2, 3]
    assert [r["step"] for r in found if "val/loss" in r["metrics"]] == [0, 1, 2, 3]
    assert [r["step"] for r in found if "samples" in r["metrics"]] == [1, 2, 3, 4]
    pictures = [
        (r["step"], value["file_path"])
        for r in found
        for value in r["metrics"].values()
        if isinstance(value, dict) and value["_type"] == "trackio.image"
    ]
    assert {step for step, _ in pictures} == {1, 2, 3, 4}
    assert all((run / path).is_file() for _, path in pictures)
    told = [r["config"] for r in found if r["config"]]
    assert [c["trainer"]["max_steps"] for c in told] == [2, 4]
    assert told[0]["model"]["init_args"]["backbone"]["depth"] == 2
    assert "facts" not in told[0]["model"]["init_args"]
    assert told[0]["provenance"]["seed"] == 1


@pytest.mark.slow
def test_going_on_from_earlier_forgets_what_came_after(experiment, tmp_path):
    run = fit(experiment("Generation"), tmp_path, "--trainer.max_steps=4")
    before = records(run)
    kept = sorted((run / "checkpoints").glob("step-*.ckpt"))[0]
    step = int(kept.stem.partition("-")[2])
    assert step < 4
    arguments = ["-c", str(run / "config.yaml"), "--ckpt_path", str(kept)]
    assert main(["fit", *arguments, "--trainer.max_steps=4"]) == 0
    again = records(run)

    def said(found: list[dict]) -> list[tuple]:
        return [(r["step"], sorted(r["metrics"])) for r in found]

    assert said(again) == said(before)
    assert sum(a == b for a, b in zip(again, before, strict=True)) > 0
    assert again[-1] != before[-1]


@pytest.mark.slow
def test_without_trackio_training_goes_on_without_a_word(experiment, tmp_path, monkeypatch, capfd):
    run = fit(experiment("TextClassification"), tmp_path / "with")
    said = capfd.readouterr().err
    monkeypatch.setattr("tfzoo.cli.experiment.is_installed", lambda: False)
    without = fit(experiment("TextClassification"), tmp_path / "without")
    assert records(run)
    assert not (without / "trackio").exists()
    assert (without / "metrics.csv").exists()
    assert "trackio" not in said + capfd.readouterr().err
    # It is in the config all the same, which goes to machines that have it.
    for folder in (run, without):
        loggers = yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["logger"]
        assert [one["class_path"].rpartition(".")[2] for one in loggers] == [
            "MetricsLogger",
            "TrackioLogger",
        ]


@pytest.mark.parametrize("said", [[], ["--trainer.logger=true"]])
@pytest.mark.slow
def test_it_is_among_the_loggers_of_who_names_none(experiment, tmp_path, monkeypatch, said):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    settings = yaml.safe_load(experiment("Generation").read_text())
    del settings["trainer"]["logger"]
    file = tmp_path / "generation.yaml"
    file.write_text(yaml.safe_dump(settings))
    arguments = ["fit", "-c", str(file), "--runs", str(tmp_path / "runs"), "--run_id=1"]
    assert main([*arguments, *said, "--trainer.log_every_n_steps=1"]) == 0
    assert records(tmp_path / "runs/generation/1")[0]["step"] == 0
