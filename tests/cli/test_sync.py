"""`tfzoo sync` brings runs that were trained offline to a W&B server, however they ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from wandb_server import serving

from tfzoo.cli import main
from tfzoo.tracking.lock import Lock
from tfzoo.tracking.runs import Run
from tfzoo.tracking.sync import Fragment, fragments, sending

TFZOO = "import sys; from tfzoo.cli import main; sys.exit(main(sys.argv[1:]))"
LOGGERS = json.dumps(
    [
        {"class_path": "tfzoo.tracking.loggers.MetricsLogger"},
        {
            "class_path": "tfzoo.tracking.loggers.WandbLogger",
            "init_args": {
                "project": "zoo",
                "tags": ["small", "first"],
                "notes": "how it began",
                "job_type": "train",
                "log_model": True,
            },
        },
    ]
)


def environment(home: Path, **more: str) -> dict[str, str]:
    """No account, and no W&B service of another test's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return kept | {"HOME": str(home), "NETRC": str(home / "netrc"), **more}


def tfzoo(
    *arguments: object, env: dict[str, str], run: Callable = subprocess.run
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TFZOO, *map(str, arguments)]
    return run(command, env=env, capture_output=True, text=True)


def trained(experiment: Path, run: Path, steps: int, env: dict[str, str]) -> None:
    """Trains in that folder, or goes on there, until so many steps are done."""
    flags = [f"--trainer.max_steps={steps}", "--trainer.log_every_n_steps=1", f"--trainer.logger={LOGGERS}"]  # fmt: skip
    flags.append("--trainer.callbacks=null")  # pictures too
    where = ["-c", experiment, "--runs", run.parents[1], "--run_id", run.name]
    begin = ["resume", run] if run.exists() else ["fit", *where, "--experiment", run.parent.name]
    done = tfzoo(*begin, *flags, env=env, run=forked.run)
    assert done.returncode == 0, done.stderr


def inspected(fragment: Fragment, *how: str) -> str:
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", *how]
    return subprocess.run([*command, fragment.file], capture_output=True, text=True, check=True).stdout  # fmt: skip


@pytest.fixture(scope="module")
def offline(experiment, tmp_path_factory) -> Run:
    """A run in two lives, of which the first was killed while it wrote its last record."""
    home = tmp_path_factory.mktemp("offline")
    run = Run(home / "runs/words/one")
    env = environment(home, WANDB_MODE="offline")
    trained(experiment("TextClassification"), run.folder, 3, env)
    (first,) = fragments(run)
    first.file.write_bytes(first.file.read_bytes()[:-10])
    trained(experiment("TextClassification"), run.folder, 5, env)
    return run


def losses(rows: list[dict]) -> list[int]:
    return [row["trainer/global_step"] for row in rows if "train/loss" in row]


@pytest.mark.slow
class TestOffline:
    @pytest.fixture(scope="class")
    def second(self, offline) -> list[dict]:
        return [json.loads(line) for line in inspected(fragments(offline)[1]).splitlines()]

    def test_a_run_that_goes_on_is_the_same_run(self, offline, second):
        assert [f.file.name for f in fragments(offline)] == ["run-words-one.wandb"] * 2
        run = next(r["run"] for r in second if r["type"] == "run")
        assert (run["run_id"], run["resume"]) == ("words-one", True)

    def test_what_it_is_called(self, second):
        run = next(r["run"] for r in second if r["type"] == "run")
        assert (run["project"], run["run_group"], run["job_type"]) == ("zoo", "words", "train")
        assert (run["tags"], run["notes"]) == (["small", "first"], "how it began")

    def test_the_commit_though_the_run_lies_elsewhere(self, second):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
        told = [r["environment"]["git"] for r in second if r.get("environment", {}).get("git")]
        assert [one["commit"] for one in told] == [commit.strip()]

    def test_the_config_is_nested_and_says_only_what_was_set(self, offline):
        config = json.loads(inspected(fragments(offline)[1], "--summary"))["config"]
        assert config["model"]["init_args"]["backbone"]["dim"] == 32
        assert config["trainer"]["max_steps"] == 5
        assert config["experiment"] == "words"
        assert config["provenance"]["seed"] == 1
        assert '": null' not in json.dumps(config)
        assert not {"runs", "run_id", "hparams", "init_args"} & set(config)
        assert "logger" not in config["trainer"]

    def test_the_summary_holds_best_and_last_of_both_lives(self, offline, second):
        summary = json.loads(inspected(fragments(offline)[1], "--summary"))["summary"]
        rows = [r["history"]["item"] for r in second if r["type"] == "history"]
        measured = [row["val/accuracy"] for row in rows if "val/accuracy" in row]
        assert summary["val/accuracy"]["last"] == measured[-1]
        assert summary["val/accuracy"]["max"] >= max(measured)
        assert summary["val/loss"]["min"] <= summary["val/loss"]["last"]


@pytest.mark.slow
class TestSync:
    @pytest.fixture(scope="class")
    def sent(self, offline, tmp_path_factory):
        """What the server received, and what `tfzoo sync` said: of a part, again, and of the whole."""
        home = tmp_path_factory.mktemp("sync")
        run = Run(Path(shutil.copytree(offline.folder, home / "runs/words/one", symlinks=True)))
        before = [fragment.file.read_bytes() for fragment in fragments(run)]
        second = fragments(run)[1].file
        second.write_bytes(before[1][: len(before[1]) // 2])
        with serving() as server:
            env = environment(home, **server.environment)
            said = [tfzoo("sync", home / "runs", env=env) for _ in range(2)]
            second.write_bytes(before[1])
            said.append(tfzoo("sync", run.folder, env=env))
            assert [fragment.file.read_bytes() for fragment in fragments(run)] == before
            assert server.http.errors == []
            yield server.run("words-one"), said

    def test_says_what_it_sent_and_where(self, sent):
        _, (first, *_) = sent
        assert first.returncode == 0, first.stderr
        (line,) = first.stdout.splitlines()
        assert re.search(r"words/one: 2 fragments, \d+ rows to step [345], ", line)
        assert line.endswith("/somebody/zoo/runs/words-one")

    def test_sends_nothing_twice_and_the_rest_of_what_has_grown(self, sent):
        received, (first, second, third) = sent
        nothing = (0, "nothing to send: all was sent before\n")
        assert (second.returncode, second.stdout) == nothing
        assert "words/one: 1 fragment, " in third.stdout
        assert "to step 5, " in third.stdout
        rows = [int(re.search(r"(\d+) rows", one.stdout)[1]) for one in (first, third)]
        assert min(rows) > 0
        assert sum(rows) == len(received.history)

    def test_every_step_once_in_its_order(self, sent):
        received, _ = sent
        assert losses(received.history) == [0, 1, 2, 3, 4]
        assert [row["_step"] for row in received.history] == list(range(len(received.history)))

    def test_names_config_and_best_values(self, sent):
        received, _ = sent
        said = received.said
        assert (said["project"], said["groupName"], said["jobType"]) == ("zoo", "words", "train")
        assert (said["tags"], said["notes"]) == (["small", "first"], "how it began")
        assert received.config["model"]["init_args"]["backbone"]["dim"] == 32
        measured = [row["val/accuracy"] for row in received.history if "val/accuracy" in row]
        assert received.summary["val/accuracy"] == {"max": max(measured), "last": measured[-1]}

    def test_pictures_tables_and_the_best_checkpoint(self, sent):
        received, _ = sent
        media = [name for name in received.files if name.startswith("media/")]
        assert {Path(name).suffix for name in media} == {".png", ".json"}
        assert all(received.files[name] for name in media)
        models = [a for a in received.artifacts if a["artifactTypeName"] == "model"]
        assert models
        assert "model.ckpt" in models[-1]["files"]


@pytest.mark.slow
def test_an_online_run_goes_on_as_the_same_run(experiment, tmp_path):
    run = Run(tmp_path / "runs/words/one")
    with serving() as server:
        for steps in (2, 3):
            trained(experiment("TextClassification"), run.folder, steps, environment(tmp_path, **server.environment))  # fmt: skip
        assert server.http.errors == []
        assert list(server.runs) == ["words-one"]
        received = server.run("words-one")
    assert losses(received.history) == [0, 1, 2]
    assert [row["_step"] for row in received.history] == list(range(len(received.history)))
    assert (received.said["groupName"], received.said["tags"]) == ("words", ["small", "first"])
    assert received.said["commit"]
    assert received.config["model"]["init_args"]["backbone"]["dim"] == 32
    measured = [row["val/loss"] for row in received.history if "val/loss" in row]
    assert received.summary["val/loss"] == {"min": min(measured), "last": measured[-1]}
    assert {Path(n).suffix for n in received.files if n.startswith("media/")} == {".png", ".json"}
    assert [a for a in received.artifacts if a["artifactTypeName"] == "model"]


class TestRefusals:
    """Each in one line, before anything is sent."""

    @pytest.fixture(autouse=True)
    def nobody(self, tmp_path, monkeypatch):
        for key in [key for key in os.environ if key.startswith("WANDB_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)

    @pytest.fixture
    def run(self, tmp_path) -> Run:
        run = Run(tmp_path / "runs/words/one")
        folder = run.folder / "wandb/offline-run-20261125_101500-words-one"
        folder.mkdir(parents=True)
        (folder / "run-words-one.wandb").write_bytes(bytes(2000))
        run.config_file.touch()
        return run

    def test_nobody_to_send_as(self, run, capsys):
        assert main(["sync"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "wandb login" in line

    def test_nobody_who_answers(self, run, capsys, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        assert main(["sync"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "no W&B server answers at http://127.0.0.1:9" in line

    def test_a_dry_run_needs_neither(self, run, capsys):
        assert main(["sync", "--dry-run"]) == 0
        assert capsys.readouterr().out == "would send runs/words/one: 1 fragment, 2.0 kB\n"

    def test_a_run_that_trains_is_left_for_later(self, run, capsys):
        lock = Lock(run)
        lock.take()
        try:
            assert main(["sync"]) == 0
        finally:
            lock.release()
        said = capsys.readouterr()
        assert "runs/words/one is left for later: in use by process" in said.err
        assert said.out == "nothing to send: the runs are in use\n"

    def test_a_run_that_is_being_sent_is_left_to_who_sends_it(self, run, capsys, monkeypatch):
        monkeypatch.setattr("tfzoo.cli.sync.check_server", lambda: None)
        with sending(run):
            assert main(["sync"]) == 0
        said = capsys.readouterr()
        assert said.err == "runs/words/one is left out: another tfzoo sync sends it now\n"
        assert said.out == ""

    def test_what_wandb_itself_has_sent_is_not_sent_again(self, run, capsys):
        fragments(run)[0].marker.touch()
        assert main(["sync"]) == 0
        assert capsys.readouterr().out == "nothing to send: all was sent before\n"

    def test_a_folder_that_is_not_there(self, capsys):
        assert main(["sync", "rnus"]) == 2
        assert "there is no such folder" in capsys.readouterr().err
