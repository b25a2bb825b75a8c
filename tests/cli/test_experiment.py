"""What `tfzoo fit` leaves, how a run goes on, and how checkpoints are measured."""

import contextlib
import csv
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import wandb
import yaml

from tfzoo.cli import main
from tfzoo.cli.places import program
from tfzoo.tasks import Task, Translation
from tfzoo.tracking.runs import Run, newest_checkpoint
from tfzoo.training.checkpoint import read_checkpoint

TASKS = ["Translation", "TextClassification", "ImageClassification", "Generation"]
FIGURES = {
    "Translation": {
        "samples.md",
        "alignment.png",
        "attention-cross.png",
        "attention-encoder.png",
        "attention-decoder.png",
    },
    "TextClassification": {
        "samples.md",
        "attention.png",
        "attention-lines.png",
        "confusion.png",
    },
    "ImageClassification": {"attention.png", "confusion.png"},
    "Generation": {"samples.md", "attention.png", "attention-lines.png"},
}
QUIET = "--trainer.logger=tfzoo.tracking.loggers.MetricsLogger"


def fit(config: Path, runs: Path, *flags: str) -> Path:
    """Train, and find the new run's folder."""
    before = set(runs.glob("*/*"))
    assert main(["fit", "-c", str(config), f"--runs={runs}", *flags]) == 0
    (run,) = set(runs.glob("*/*")) - before
    return run


def last_of(run: Path) -> Path:
    newest = newest_checkpoint(Run(run))
    assert newest is not None
    return newest


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def config_of(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_all_in_its_folder(task, trained):
    run = trained(task)
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/step-00000002.ckpt",
    } <= names
    assert not any(".partial" in name for name in names)
    figures = {name.removeprefix("figures/") for name in names if name.startswith("figures/")}
    # The first validation comes with step 1, or the only one with step 2: all of its pictures, and those of the last.
    last = {name.replace("-step000002", "") for name in figures if "-step000001" not in name}
    # That nothing is misread leaves no picture of it.
    assert last - {"misread.png"} == FIGURES[task] | {"learning-curves.png", "positions.png"}
    rows = metrics(run)
    logged = {key for row in rows for key, value in row.items() if value}
    best = read_checkpoint(run / "checkpoints/best.ckpt")
    assert {
        "step",
        "epoch",
        "val/loss",
        type(Task.from_checkpoint(run / "checkpoints/best.ckpt")).best[0],
    } <= logged
    assert best["global_step"] in (1, 2)
    assert read_checkpoint(last_of(run))["global_step"] == 2


@pytest.mark.slow
def test_weights_and_biases_have_all_of_it(experiment, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ["--trainer.logger=true", "--trainer.callbacks=null"]
    run = fit(experiment("ImageClassification"), tmp_path / "runs", *flags)
    assert metrics(run)
    wandb.teardown()  # a run's end alone does not wait until wandb's process has written its file
    (offline,) = (run / "wandb").glob("offline-run-*")
    (file,) = offline.glob("run-*.wandb")
    content = file.read_bytes()
    # The config as it is nested, in the run itself.
    assert b"max_length" in content
    assert list(offline.glob("files/media/images/*.png"))
    assert config_of(run)["trainer"]["logger"] is True


@pytest.mark.slow
def test_its_config_gives_the_same_training_again(trained, tmp_path):
    run = trained("TextClassification")
    again = fit(run / "config.yaml", tmp_path)
    # Of the same name, in a folder of its own.
    assert again.parent.name == run.parent.name
    assert again.name != run.name
    assert config_of(again) == config_of(run) | {"runs": str(tmp_path)}
    ours, theirs = (read_checkpoint(last_of(r))["state_dict"] for r in (run, again))
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.slow
def test_a_config_says_nothing_of_what_was_for_once(experiment, tmp_path):
    run = fit(experiment("TextClassification"), tmp_path, "--run_id=first", "--experiment=mine")
    assert run == tmp_path / "mine" / "first"
    config = config_of(run)
    assert (config["experiment"], config["run_id"], config["ckpt_path"]) == ("mine", None, None)
    last = last_of(run)
    assert (
        main(
            ["fit", "-c", str(run / "config.yaml"), f"--ckpt_path={last}", "--trainer.max_steps=3"]
        )
        == 0
    )
    assert config_of(run)["ckpt_path"] is None


def test_a_resumed_run_goes_on_in_its_folder_and_flags_win(trained, tmp_path):
    run = tmp_path / "runs" / "textclassification" / "1"
    shutil.copytree(trained("TextClassification"), run)
    before = metrics(run)
    flags = [
        "--trainer.max_steps=4",
        "--model.backbone.dropout=0.25",
        "--model.label_smoothing=0.2",
    ]
    last = last_of(run)
    arguments = ["fit", "-c", str(run / "config.yaml"), f"--ckpt_path={last}", *flags]
    assert main([*arguments, f"--runs={tmp_path / 'elsewhere'}"]) == 0
    assert not (tmp_path / "elsewhere").exists()
    checkpoint = read_checkpoint(last_of(run))
    assert checkpoint["global_step"] == 4
    task = Task.from_checkpoint(last_of(run))
    assert (task.network.config.dropout, task.settings["label_smoothing"]) == (0.25, 0.2)
    settings = config_of(run)
    assert settings["trainer"]["max_steps"] == 4
    assert settings["model"]["init_args"]["label_smoothing"] == 0.2
    # What was logged stays, and more comes after it.
    rows = metrics(run)
    assert [row["step"] for row in rows[: len(before)]] == [row["step"] for row in before]
    steps = [int(row["step"]) for row in rows if row["val/loss"]]
    assert steps == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_training_that_is_resumed_equals_one_that_was_not(experiment, tmp_path):
    config = experiment("TextClassification")
    # A falling rate must know of both halves; the sets' four batches come in a random order.
    flags = ["--model.schedule.total=6", "--data.batch_tokens=64", "--trainer.val_check_interval=3"]
    whole = fit(config, tmp_path, *flags, "--trainer.max_steps=6", "--run_id=whole")
    half = fit(config, tmp_path, *flags, "--trainer.max_steps=3", "--run_id=half")
    last = last_of(half)
    again = ["fit", "-c", str(half / "config.yaml"), f"--ckpt_path={last}", "--trainer.max_steps=6"]
    assert main(again) == 0
    ours, theirs = (read_checkpoint(last_of(run)) for run in (whole, half))
    assert ours["global_step"] == theirs["global_step"] == 6
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    for name, weight in ours["state_dict"].items():
        assert torch.equal(weight, theirs["state_dict"][name]), name
    step = {
        run: [row["val/loss"] for row in metrics(run) if row["val/loss"]] for run in (whole, half)
    }
    assert step[whole] == step[half]


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_is_measured_with_its_runs_config(task, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(trained(task), tmp_path / "runs/x/1"))
    checkpoint = str(run / "checkpoints/best.ckpt")
    assert main(["test", "--ckpt_path", checkpoint]) == 0
    assert main(["validate", "--ckpt_path", checkpoint]) == 0
    assert main(["predict", "--ckpt_path", checkpoint]) == 0
    shown = ["--trainer.callbacks=Show"]  # which is for training
    assert main(["validate", "--ckpt_path", checkpoint, *shown]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    measured = json.loads((run / "test.json").read_text())
    assert measured["test/loss"] > 0
    # Validation as in training, to the last digit.
    step = read_checkpoint(checkpoint)["global_step"]
    logged = [row for row in metrics(run) if row["val/loss"] and int(row["step"]) == step - 1]
    found = json.loads((run / "validation.json").read_text())
    for name, value in found.items():
        assert value == pytest.approx(float(logged[0][name]), rel=1e-5), name
    predictions = [
        json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()
    ]
    assert len(predictions) == {"ImageClassification": 4, "Generation": 21}.get(task, 8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs"]


def test_measuring_changes_nothing_of_the_run(trained):
    run = trained("TextClassification")
    before = {
        p: p.stat().st_mtime_ns for p in run.rglob("*") if p.suffix in (".ckpt", ".yaml", ".csv")
    }
    assert main(["validate", "--ckpt_path", str(run / "checkpoints/best.ckpt")]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}
    (run / "validation.json").unlink()


@pytest.mark.slow
def test_a_run_is_resumed_by_its_folder_and_says_from_where(trained, tmp_path, capsys):
    run = Path(shutil.copytree(trained("Generation"), tmp_path / "runs/x/1"))
    newest = last_of(run)
    assert main(["resume", str(run), "--trainer.max_steps=3"]) == 0
    assert f"resuming from {newest}" in capsys.readouterr().out
    assert last_of(run).name == "step-00000003.ckpt"
    # A requeued job, which knows its name alone.
    again = ["fit", "-c", str(run / "config.yaml"), f"--runs={tmp_path / 'runs'}", "--run_id=1"]
    newest = last_of(run)
    assert main([*again, "--experiment=x", "--ckpt_path=last", "--trainer.max_steps=4"]) == 0
    assert f"resuming from {newest}, after step 3" in capsys.readouterr().out
    assert read_checkpoint(last_of(run))["global_step"] == 4
    assert [int(row["step"]) for row in metrics(run) if row["val/loss"]] == [0, 1, 2, 3]
    # Its first start finds nothing to go on from.
    again = [*again[:3], f"--runs={tmp_path / 'new'}", "--run_id=1", "--ckpt_path=last"]
    assert main([*again, "--experiment=x", "--trainer.max_steps=1"]) == 0
    assert "resuming" not in capsys.readouterr().out
    assert [int(row["step"]) for row in metrics(tmp_path / "new/x/1") if row["val/loss"]] == [0]


def test_what_cannot_be_resumed_is_told(tmp_path, capsys):
    (tmp_path / "empty/checkpoints").mkdir(parents=True)
    for arguments, told in (
        ([], "resume needs the folder of a run"),
        ([tmp_path / "none"], "there is nothing at"),
        ([tmp_path / "empty"], "holds no whole checkpoint to go on from"),
    ):
        assert main(["resume", *map(str, arguments)]) == 2
        assert told in capsys.readouterr().err


EMA = json.dumps([{"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5}}])


@pytest.mark.slow
def test_averaged_weights_are_those_of_the_checkpoint(experiment, tmp_path):
    flags = [f"--trainer.callbacks={EMA}", "--trainer.max_steps=3"]
    run = fit(experiment("Translation"), tmp_path, *flags)
    last = last_of(run)
    checkpoint = read_checkpoint(last)
    averaged, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert averaged.keys() == current.keys()
    assert not all(torch.equal(averaged[name], current[name]) for name in averaged)
    task = Translation.from_checkpoint(last)
    for name, weight in task.state_dict().items():
        assert torch.equal(weight, averaged[name]), name
    assert len(list(task.translate(["some text"]))) == 1
    # It is the averaged weights that were validated, and that a test measures.
    assert main(["validate", "--ckpt_path", str(last)]) == 0
    found = json.loads((run / "validation.json").read_text())
    assert found["val/loss"] == pytest.approx(float(metrics(run)[-1]["val/loss"]), rel=1e-5)
    # Training goes on from the current ones.
    arguments = ["fit", "-c", str(run / "config.yaml"), "--ckpt_path", str(last)]
    assert main([*arguments, "--trainer.max_steps=4"]) == 0
    assert read_checkpoint(last_of(run))["global_step"] == 4


@pytest.mark.slow
def test_pictures_and_samples_are_of_the_averaged_weights(experiment, tmp_path, monkeypatch):
    from tfzoo.tasks import Generation

    seen = []
    usual = Generation.samples
    weight = "network.embedding.weight"

    def samples(task):
        seen.append(task.state_dict()[weight].clone())
        return usual(task)

    monkeypatch.setattr(Generation, "samples", samples)
    run = fit(
        experiment("Generation"), tmp_path, f"--trainer.callbacks={EMA}", "--trainer.max_steps=2"
    )
    checkpoint = read_checkpoint(last_of(run))
    assert torch.equal(seen[-1], checkpoint["state_dict"][weight])
    assert not torch.equal(seen[-1], checkpoint["current_model_state"][weight])


@pytest.mark.slow
def test_a_run_that_is_where_it_should_come_to_says_so(trained, tmp_path, capfd):
    run = Path(shutil.copytree(trained("Generation"), tmp_path / "generation" / "copy"))
    assert main(["resume", str(run), "--trainer.max_steps=1"]) == 0
    (told,) = [line for line in capfd.readouterr().out.splitlines() if "nothing to train" in line]
    assert (
        told
        == f"nothing to train: {run} has done 2 steps; to go on, say more with --trainer.max_steps"
    )


@pytest.mark.slow
@pytest.mark.parametrize("steps", [99, -1])
def test_a_run_that_its_epochs_ended_is_told_to_go_on_with_more_of_them(
    steps, experiment, tmp_path, capfd
):
    bounds = [f"--trainer.max_steps={steps}", "--trainer.max_epochs=1"]
    constant = "--model.schedule=Constant"  # others know of the end
    run = fit(experiment("TextClassification"), tmp_path, QUIET, constant, *bounds)
    assert f"resume {run} --trainer.max_epochs 2\n" in capfd.readouterr().out
    assert main(["resume", str(run), "--trainer.max_steps=500"]) == 0
    assert " --trainer.max_epochs" in capfd.readouterr().out
    done = last_of(run)
    assert main(["resume", str(run), "--trainer.max_epochs=2"]) == 0
    assert last_of(run) != done


@pytest.mark.slow
def test_both_bounds_are_named_where_a_run_has_come_to_both(experiment, tmp_path, capfd):
    constant = "--model.schedule=Constant"
    bounds = ["--trainer.max_steps=2", "--trainer.max_epochs=2"]  # an epoch is a step
    run = fit(experiment("TextClassification"), tmp_path, QUIET, constant, *bounds)
    more = "--trainer.max_steps 4 --trainer.max_epochs 4"
    assert f"resume {run} {more}\n" in capfd.readouterr().out
    assert main(["resume", str(run), *more.split()]) == 0
    assert last_of(run).stem == "step-00000004"


@pytest.mark.slow
@pytest.mark.parametrize("said", ["--experiment=other", "--run_id=other"])
def test_a_checkpoint_of_one_run_does_not_go_on_under_the_name_of_another(
    said, experiment, trained, tmp_path, capfd
):
    run = Path(shutil.copytree(trained("Generation"), tmp_path / "generation" / "copy"))
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    flags = [QUIET, said, "--ckpt_path", str(last_of(run)), "--trainer.max_steps=3"]
    assert main(["fit", "-c", str(experiment("Generation")), *flags]) == 2
    assert (
        f"is of {run}, where training goes on: leave {said.partition('=')[0]} out"
        in capfd.readouterr().err
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "precision"),
    [*((task, "bf16-mixed") for task in TASKS), *((task, "bf16-true") for task in TASKS[2:])],
)
def test_half_precision_takes_a_step_and_shows_itself(task, precision, experiment, tmp_path):
    flags = [f"--trainer.precision={precision}", "--trainer.max_steps=1"]
    flags.append("--trainer.callbacks=null")  # pictures of weights in half precision too
    run = fit(experiment(task), tmp_path, *flags)
    assert list(run.glob("figures/*.png"))
    weights = read_checkpoint(last_of(run))["state_dict"].values()
    kind = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert {w.dtype for w in weights} == {kind}
    assert main(["test", "--ckpt_path", str(last_of(run))]) == 0


def test_a_dry_run_leaves_nothing(experiment, tmp_path):
    arguments = ["fit", "-c", str(experiment("TextClassification")), f"--runs={tmp_path}"]
    assert main([*arguments, "--trainer.fast_dev_run=true"]) == 0
    assert not list(tmp_path.glob("*/*"))


def test_data_may_be_given_as_a_path(experiment, tmp_path):
    rows = [{"text": f"another text {i}", "label": "xyz"[i % 3]} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = ["--data", str(tmp_path / "rows.jsonl")]
    run = fit(experiment("TextClassification"), tmp_path / "runs", *data, "--trainer.max_steps=1")
    assert config_of(run)["data"]["init_args"]["path"] == data[1]
    assert Task.from_checkpoint(last_of(run)).facts.labels == ("x", "y", "z")


@pytest.mark.slow
def test_two_runs_never_share_a_folder(experiment, tmp_path):
    one, other = (
        fit(experiment("TextClassification"), tmp_path, "--trainer.max_steps=1") for _ in "ab"
    )
    assert one != other
    assert one.parent == other.parent


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_checkpoint_before(
    experiment, tmp_path, monkeypatch, capsys
):
    usual, saves = torch.save, []

    def save(checkpoint, file, *rest):
        saves.append(checkpoint["global_step"])
        if checkpoint["global_step"] > 1:
            file.write(b"a part")
            raise OSError(28, "No space left on device")
        usual(checkpoint, file, *rest)

    monkeypatch.setattr(torch, "save", save)
    code = main(["fit", "-c", str(experiment("TextClassification")), f"--runs={tmp_path}"])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfzoo: error: cannot save the checkpoint ")
    assert "No space left on device; the previous one is kept; tfzoo resume " in line
    (run,) = tmp_path.glob("*/*")
    assert max(saves) == 2
    checkpoints = list((run / "checkpoints").iterdir())
    assert all(path.suffix == ".ckpt" and not path.name.startswith(".") for path in checkpoints)
    assert {read_checkpoint(path)["global_step"] for path in checkpoints} == {1}


def test_truncation_is_counted(experiment, tmp_path, capsys, caplog):
    flags = ["--data.max_length=16", "--data.truncate=true", "--model.backbone.max_length=16"]
    with caplog.at_level("INFO"):
        fit(experiment("TextClassification"), tmp_path, *flags)
    told = caplog.text + capsys.readouterr().err
    assert (
        "8 of 8 samples of the train split are longer than max_length 16 and are truncated" in told
    )


def test_no_progress_where_nobody_watches(experiment, tmp_path, capfd):
    assert not sys.stderr.isatty()
    fit(experiment("ImageClassification"), tmp_path, "--trainer.enable_progress_bar=true")
    told = capfd.readouterr()
    assert "\r" not in told.err
    assert "Tokenizing" not in told.err
    assert told.out.count("\n") < 12
    # In place of the bar a line for each validation, for a log.
    (line,) = [line for line in told.out.splitlines() if line.startswith("step 2 of 2: ")]
    assert "train/loss " in line
    assert "val/accuracy " in line


def test_a_training_ends_with_what_a_person_wants(experiment, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fit(experiment("ImageClassification"), tmp_path / "runs").relative_to(tmp_path)
    told = capsys.readouterr().out.replace(program(), "tfzoo").splitlines()
    best = read_checkpoint(run / "checkpoints/best.ckpt")["global_step"]
    assert re.fullmatch(rf"best val/accuracy \d\.\d{{4}} after {best} of 2 steps", told[-6])
    assert told[-5:] == [
        f"checkpoint {run}/checkpoints/best.ckpt",
        f"metrics, samples and pictures in {run}",
        f"beside other runs: tfzoo compare {run} OTHER",
        "all of them: tfzoo runs runs, or in the browser tfzoo dashboard runs",
        f"go on with tfzoo resume {run} --trainer.max_steps 4",
    ]


@pytest.mark.slow
def test_where_somebody_watches_bars_are_on_stderr(experiment, tmp_path):
    """A terminal as stderr alone: what is measured is for stdout all the same."""
    checkpoint = fit(experiment("ImageClassification"), tmp_path / "runs") / "checkpoints/best.ckpt"
    for start, arguments, bar, line in (
        (
            subprocess.Popen,
            ["fit", "-c", str(experiment("ImageClassification")), f"--runs={tmp_path}"],
            "Epoch 0",
            "best val/accuracy",
        ),
        (forked.Popen, ["test", f"--ckpt_path={checkpoint}"], "Testing", "test/accuracy"),
    ):
        ours, theirs = pty.openpty()
        watched = "import sys, tfzoo.cli; sys.exit(tfzoo.cli.main())"
        with start(
            [sys.executable, "-c", watched, *arguments, "--trainer.enable_progress_bar=true"],
            stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path, text=True,
            env={**os.environ, "TERM": "xterm"},
        ) as process:  # fmt: skip
            os.close(theirs)
            seen = b""
            with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
                while part := os.read(ours, 65536):
                    seen += part
            told = process.stdout.read()
        os.close(ours)
        assert process.returncode == 0, seen.decode()
        assert bar in seen.decode()
        assert bar not in told
        assert line in told


def test_figures_are_pictures(trained):
    from PIL import Image

    for file in (trained("ImageClassification") / "figures").glob("*.png"):
        with Image.open(file) as picture:
            assert min(picture.size) > 50
            assert np.asarray(picture).std() > 1


def test_a_run_is_named_after_its_experiment_whatever_comes_first(experiment, tmp_path):
    hardware = tmp_path / "one.yaml"
    hardware.write_text("trainer: {max_steps: 1}")
    config = experiment("TextClassification")
    arguments = ["fit", "-c", str(hardware), "-c", str(config), f"--runs={tmp_path / 'runs'}"]
    assert main([*arguments, QUIET, "--trainer.max_steps=1"]) == 0
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == [config.stem]


def test_a_failed_resume_keeps_a_run_that_lost_its_config(experiment, trained, tmp_path):
    run = tmp_path / "runs/some/run"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = run / "checkpoints/step-00000002.ckpt"
    shutil.copy(last_of(trained("TextClassification")), checkpoint)
    config = experiment("TextClassification")
    flags = ["--ckpt_path", str(checkpoint), "--model.backbone.dim=64"]
    assert main(["fit", "-c", str(config), QUIET, *flags]) == 2
    assert checkpoint.is_file()


@pytest.mark.slow
def test_a_run_shorter_than_its_interval_is_validated_at_its_end(experiment, tmp_path):
    flags = [QUIET, "--trainer.max_steps=2", "--trainer.val_check_interval=100"]
    config = experiment("TextClassification")
    run = fit(config, tmp_path, *flags, "--trainer.check_val_every_n_epoch", "null")
    assert (run / "checkpoints/best.ckpt").is_file()
    assert config_of(run)["trainer"]["val_check_interval"] == 100
