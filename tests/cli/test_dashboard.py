"""The dashboard's records of real trainings, and `tfzoo dashboard` itself."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import forked
import pytest
import yaml
from opened import Dashboard

from tfzoo.cli import main
from tfzoo.tracking.gathered import gathered
from tfzoo.tracking.records import read
from tfzoo.tracking.runs import Run

TRACKIO = "--trainer.logger+=tfzoo.tracking.trackio_logger.TrackioLogger"


def records(run: Path) -> list[dict]:
    return read(run / "trackio" / "records.jsonl")


def fit(experiment: Path, runs: Path, *arguments: str) -> Path:
    begin = ["fit", "-c", str(experiment), "--runs", str(runs), "--run_id=1", TRACKIO]
    begin.append("--trainer.callbacks=null")  # pictures too
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


def without_speed(found: list[dict]) -> list[dict]:
    """Which is told between two logs of one life."""
    return [r for r in found if not all(key.startswith("throughput/") for key in r["metrics"])]


@pytest.mark.slow
def test_going_on_from_earlier_forgets_what_came_after(experiment, tmp_path):
    run = fit(experiment("Generation"), tmp_path, "--trainer.max_steps=4")
    before = without_speed(records(run))
    kept = sorted((run / "checkpoints").glob("step-*.ckpt"))[0]
    step = int(kept.stem.partition("-")[2])
    assert step < 4
    arguments = ["-c", str(run / "config.yaml"), "--ckpt_path", str(kept)]
    assert main(["fit", *arguments, "--trainer.max_steps=4"]) == 0
    again = without_speed(records(run))

    def said(found: list[dict]) -> list[tuple]:
        return [(r["step"], sorted(r["metrics"])) for r in found]

    assert said(again) == said(before)
    assert sum(a == b for a, b in zip(again, before, strict=True)) > 0
    assert again[-1] != before[-1]


@pytest.mark.slow
def test_without_trackio_training_goes_on_without_a_word(experiment, tmp_path, monkeypatch, capfd):
    run = fit(experiment("TextClassification"), tmp_path / "with")
    said = capfd.readouterr().err
    monkeypatch.setattr("tfzoo.cli.outfit.is_installed", lambda: False)
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


@pytest.mark.slow
def test_a_training_killed_in_the_middle_goes_on_in_the_same_run(experiment, tmp_path):
    code = "import sys; from tfzoo.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["fit", "-c", str(experiment("Generation")), "--runs", str(tmp_path), "--run_id=1"]
    last = {"class_path": "Last", "init_args": {"every_n_steps": 3}}
    arguments += [TRACKIO, "--trainer.log_every_n_steps=1", "--trainer.max_steps=100000"]
    arguments += ["--trainer.val_check_interval=4", f"--trainer.callbacks={json.dumps([last])}"]
    run = tmp_path / "generation" / "1"

    def steps() -> list[int]:
        return [r["step"] for r in records(run) if "train/loss" in r["metrics"]]

    training = forked.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(steps()) > 9)
    finally:
        training.kill()
        training.wait()
    reached = steps()
    assert reached == list(range(len(reached)))
    end = len(reached) + 2
    assert main(["resume", str(run), f"--trainer.max_steps={end}"]) == 0
    assert steps() == list(range(end))
    shown = [(record["step"], sorted(record["metrics"])) for record in gathered(Run(run))]
    assert [step for step, keys in shown if "train/loss" in keys] == list(range(end))
    assert [step for step, keys in shown if "samples" in keys] == list(range(4, end + 1, 4))
    assert {record["run"] for record in records(run)} == {"generation/1"}


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


def until(what: Callable[[], bool]) -> None:
    patience = time.monotonic() + 60
    while not what():
        assert time.monotonic() < patience
        time.sleep(0.2)


def write(runs: Path, name: str, losses: str, depth: int = 2) -> Path:
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{step},{loss}\n" for step, loss in enumerate(losses.split()))
    (folder / "metrics.csv").write_text(f"step,loss\n{rows}")
    (folder / "config.yaml").write_text(f"model: {{depth: {depth}}}\n")
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    runs = tmp_path / "runs"
    write(runs, "digits/one", "3 2 1")
    write(runs, "digits/two", "4 2 0.5", depth=4)
    return runs


@pytest.fixture
def opened(runs) -> Iterator[Dashboard]:
    with Dashboard(runs, "--port=0") as dashboard:
        yield dashboard


@pytest.mark.slow
def test_it_shows_one_experiment_where_that_is_asked_for(runs):
    write(runs, "letters/one", "5 4")
    with Dashboard(runs / "digits", "--port=0") as dashboard:
        assert dashboard.names() == {"digits/one", "digits/two"}
    with Dashboard(runs / "letters" / "one", "--port=0") as dashboard:
        assert dashboard.names() == {"letters/one"}


@pytest.mark.slow
def test_it_shows_every_run_and_follows_them(opened, runs):
    assert opened.names() == {"digits/one", "digits/two"}
    assert opened.losses("digits/two") == {0: 4, 1: 2, 2: 0.5}
    configs = opened.ask("get_run_configs", project="tfzoo")
    assert [configs[f"digits/{n}"]["model"] for n in ("one", "two")] == [{"depth": 2}, {"depth": 4}]
    # A new run, one that was resumed from an earlier step, and one that is gone.
    write(runs, "text/three", "1")
    write(runs, "digits/two", "4 9 8 7")
    shutil.rmtree(runs / "digits" / "one")
    until(lambda: opened.names() == {"digits/two", "text/three"})
    until(lambda: opened.losses("digits/two") == {0: 4, 1: 9, 2: 8, 3: 7})
    assert len(opened.ask("get_logs", project="tfzoo", run_id="digits/two")) == 4


@pytest.mark.slow
def test_nobody_else_sees_or_changes_anything(opened, runs):
    picture = runs / "digits" / "one" / "figures" / "a-step000003.png"
    picture.parent.mkdir()
    picture.write_bytes(b"\x89PNG")
    until(lambda: opened.status(f"/file?path={picture}") == 200)
    assert opened.status(f"/file?path={runs}/digits/one/config.yaml") == 404
    assert opened.status("/file?path=/etc/hostname") == 404
    for name in ("delete_run", "rename_run", "bulk_log", "log", "get_registries", "force_sync"):
        assert (
            opened.status(f"/api/{name}", b"{}", **{"x-trackio-write-token": "known-to-all"}) == 404
        )
    assert opened.status("/api/upload", b"") in (404, 405)
    # A page elsewhere whose name was made to point to this machine.
    assert opened.status("/", Host="evil.example") == 400
    assert opened.status("/", Host=f"localhost:{opened.port}") == 200
    with pytest.raises(ConnectionRefusedError):  # which every address of this machine would take
        socket.create_connection(("127.0.0.2", opened.port), 5).close()
    folders = list(runs.parent.glob("tfzoo-dashboard-*"))
    assert [folder.stat().st_mode & 0o077 for folder in folders] == [0]
    assert opened.names() == {"digits/one", "digits/two"}
    command = Path(f"/proc/{opened.process.pid}/cmdline").read_bytes()
    code, out, err = opened.end()
    assert (code, out, err.strip()) == (0, "", "")
    assert opened.said == f"http://127.0.0.1:{opened.port}/\n"
    assert b"token" not in command
    assert not opened.called()
    assert list(runs.parent.glob("tfzoo-dashboard-*")) == []
    assert sorted(p.name for p in runs.rglob("*") if p.is_file()) == [
        "a-step000003.png",
        "config.yaml",
        "config.yaml",
        "metrics.csv",
        "metrics.csv",
    ]


@pytest.mark.slow
def test_a_signal_to_end_leaves_nothing_behind(opened, runs):
    assert opened.names()
    assert opened.end(signal.SIGTERM) == (143, "", "")
    assert list(runs.parent.glob("tfzoo-dashboard-*")) == []


@pytest.mark.slow
def test_whoever_asks_for_it_is_told_that_others_see_it(runs):
    with Dashboard(runs, "--port=0", "--host=0.0.0.0") as dashboard:
        assert dashboard.status("/", Host="this.machine") == 200
        code, _, err = dashboard.end()
    assert code == 0
    assert err.splitlines()[0] == (
        f"tfzoo: warning: whoever reaches this machine can see the runs at port {dashboard.port}"
    )


@pytest.fixture
def unserved(monkeypatch):
    """What is told here is told before anything is served; else this process would serve for good."""
    monkeypatch.setattr("tfzoo.cli.dashboard._show", lambda *_: pytest.fail("served"))


def told(capsys, *arguments: str) -> str:
    """The one line of a mistake."""
    assert main(["dashboard", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_a_port_in_use(runs, unserved, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = told(capsys, str(runs), f"--port={port}")
    assert line == (
        f"tfzoo: error: port {port} is in use: say another with --port, or none for a free one"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port=70000"], "--port 70000 is none: it must be between 0 and 65535"),
        (["--port=x"], "argument --port: invalid int value: 'x'"),
        (["--host=192.0.2.1"], "cannot listen on 192.0.2.1, port 7860"),
        (["--open"], "unrecognized arguments: --open"),
    ],
)
def test_mistakes_are_told(runs, unserved, capsys, arguments, line):
    assert line in told(capsys, str(runs), *arguments)


def test_no_such_folder(tmp_path, unserved, capsys):
    assert "no runs in" in told(capsys, str(tmp_path / "none"))


def test_without_the_extra(runs, unserved, capsys, monkeypatch):
    monkeypatch.setattr("tfzoo.cli.dashboard.find_spec", lambda _: None)
    assert told(capsys, str(runs)) == (
        'tfzoo: error: the dashboard needs its extra: pip install "tfzoo[dashboard]"'
    )
