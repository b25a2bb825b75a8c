"""What the demo does with what it is told, with trainings that fail, and with figures; and one real, short demo."""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml

from tfzoo import signals
from tfzoo.baselines import ACCURACY, NATS, Figure
from tfzoo.cli import demo, main
from tfzoo.cli.comparison import Comparison, markdown
from tfzoo.tracking.learning_curves import read_baselines, write_baselines
from tfzoo.tracking.runs import Run

CHECKOUT = Path(__file__).parents[2]


def figure(name, metric, value):
    return Figure(name, metric, {"test": value})


@pytest.mark.parametrize(
    ("metric", "model", "verdict"),
    [
        (ACCURACY, 97.0, "beats one\nbeats other"),
        (ACCURACY, 93.0, "beats one\nnot yet other"),
        (ACCURACY, 95.001, "beats one\nnot yet other"),
        (ACCURACY, 12.0, "not yet one\nnot yet other"),
        (ACCURACY, None, "failed"),
        (NATS, 12.0, "beats one\nbeats other"),
        (NATS, 93.0, "not yet one\nbeats other"),
    ],
)
def test_verdict_is_of_the_figures_shown(metric, model, verdict):
    baselines = [figure("one", metric, 90.0), figure("other", metric, 95.0)]
    assert Comparison("task", "set", metric, model, baselines).verdict == verdict


def test_markdown_keeps_its_cells():
    table = markdown(["metric", "model"], [["a|b\nc", "1"]])
    assert table.splitlines() == ["| metric | model |", "| --- | ---: |", r"| a\|b<br>c | 1 |"]


@pytest.fixture
def stubbed(monkeypatch, tmp_path):
    """The demo in an empty folder, with trainings and baselines that cost nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / demo.HERE).mkdir(parents=True)
    for name in demo.EXPERIMENTS:
        (tmp_path / demo.HERE / f"{name}.yaml").touch()
    metrics = {
        "test/accuracy": 0.97,
        "test/bleu": 30,
        "test/chrf": 40,
        "test/bits_per_character": 2,
    }

    def train(file, runs, baselines):
        if file.stem == "digits" and (tmp_path / "fail").exists():
            raise ValueError("heads must divide\nthe width")
        run = Run(tmp_path / runs / file.stem / "1")
        run.figures.mkdir(parents=True)
        write_baselines(run, baselines)
        for name in (
            "attention-step000010.png",
            "attention-step000020.png",
            "samples-step000020.md",
        ):
            (run.figures / name).touch()
        return demo.Trained(run, run.checkpoints / "best.ckpt", metrics, 1234, 5.6)

    def baselines(console, name, measured):
        for metric in demo.EXPERIMENTS[name].measured:
            yield Figure("simple", metric, dict.fromkeys(measured, 50.0)), 0.1

    monkeypatch.setattr(demo, "_train", train)
    monkeypatch.setattr(demo, "_baselines", baselines)
    monkeypatch.setattr(demo, "_digit", lambda run: run.folder / "digit.png")
    return tmp_path


def test_demo_ends_with_table_and_places(stubbed, capsys):
    assert main(["demo", "--runs", "out"]) == 0
    told, report = capsys.readouterr().out, (stubbed / "out" / "demo.md").read_text()
    for text in (told, report):
        assert f"{2 * math.log(2):.2f}" in text
        assert "97.00" in text
        assert "1,234" in text
        assert "translate out/translation/1/checkpoints/best.ckpt" in text
        assert "attention-step000020.png" in text
        assert "attention-step000010.png" not in text
    # What the curves are seen beside, in the unit of the metric that is logged.
    (run,) = (stubbed / "out" / "digits").iterdir()
    assert read_baselines(Run(run)) == {"val/accuracy": {"simple": 0.5}}
    (run,) = (stubbed / "out" / "shakespeare").iterdir()
    assert read_baselines(Run(run)) == {
        "val/bits_per_character": {"simple": pytest.approx(50 / math.log(2))}
    }
    assert (
        report.count("| beats simple |") == 3
    )  # reviews, digits, shakespeare: 1.39 nats are below 50
    assert report.count("| not yet simple |") == 2


def test_one_failure_leaves_the_others_their_turn(stubbed, capsys):
    (stubbed / "fail").touch()
    assert main(["demo", "--only", "digits,reviews"]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "digits failed: heads must divide the width",
        "tfzoo: error: digits failed: see above",
    ]
    assert "| failed |" in (stubbed / "runs" / "demo.md").read_text()
    assert "97.00" in told.out
    assert "classify runs/reviews" in told.out
    assert "classify runs/digits" not in told.out


def test_who_asks_it_to_stop_is_told_how_to_go_on(stubbed, capsys, monkeypatch):
    usual = demo._train

    def asked(file, *rest):
        signals.be_patient()  # as a training is
        if file.stem == "digits":
            os.kill(os.getpid(), signal.SIGTERM)
        return usual(file, *rest)

    monkeypatch.setattr(demo, "_train", asked)
    assert main(["demo"]) == 128 + signal.SIGTERM
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfzoo: SIGTERM: stopped before shakespeare; ")
    assert line.endswith("demo --only shakespeare trains what is left")


def test_baselines_only_trains_nothing(stubbed, capsys, monkeypatch):
    monkeypatch.setattr(demo, "_train", None)
    assert main(["demo", "--baselines-only", "--only", "reviews"]) == 0
    assert "validation" in capsys.readouterr().out
    assert not (stubbed / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--only", "digts"], "did you mean 'digits'?"),
        (["--only", ""], "no experiment ''"),
        (["--experiments", "nowhere"], "no folder nowhere"),
        (["--experiments", "."], "the demo needs the experiment file translation.yaml"),
        (["--runs", "taken"], "taken"),
        (["surplus"], "surplus"),
    ],
)
def test_mistakes_are_told_in_one_line(stubbed, capsys, arguments, error):
    (stubbed / "taken").touch()
    assert main(["demo", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line


def test_outside_of_the_checkout_its_files_are_found(stubbed, monkeypatch):
    (stubbed / demo.HERE).rename(stubbed / "experiments" / "other")
    assert demo._folder(None) == CHECKOUT / demo.HERE


def test_without_a_checkout_says_so(stubbed, capsys, monkeypatch):
    (stubbed / demo.HERE).rename(stubbed / "experiments" / "other")
    monkeypatch.setattr(
        demo.tfzoo, "__file__", str(stubbed / "site-packages" / "tfzoo" / "__init__.py")
    )
    assert main(["demo"]) == 2
    assert "--experiments" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs the extra demo")
def test_a_short_demo_and_its_commands(tmp_path):
    recipe = yaml.safe_load((CHECKOUT / "experiments" / "demo" / "digits.yaml").read_text())
    recipe["trainer"] |= {"max_steps": 10, "val_check_interval": 10}
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe))
    program = [sys.executable, "-c", "import sys, tfzoo.cli; sys.exit(tfzoo.cli.main())"]
    command = [*program, "demo", "--only", "digits", "--experiments", "."]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    (run,) = (tmp_path / "runs" / "demo-digits").iterdir()
    report = (tmp_path / "runs" / "demo.md").read_text()
    accuracy = 100 * json.loads((run / "test.json").read_text())["test/accuracy"]
    assert f"| {accuracy:.2f} |" in report
    assert "RBF SVM 95.62" in report
    (line,) = [line for line in report.splitlines() if " classify " in line]
    arguments = line.split()[1:]
    found = forked.run(
        [*program, *arguments],
        cwd=tmp_path,
        check=True,
        timeout=100,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip().endswith("digit.png")
