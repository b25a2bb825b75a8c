"""`tfzoo workspace` saves a view in which runs are compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from wandb_server import serving

from tfzoo.cli import main, workspace
from tfzoo.cli.workspace import PICTURES, TASKS, logged_by

TFZOO = "import sys; from tfzoo.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def runs(tmp_path):
    """Two runs of two experiments."""
    for name, metric in (("words", "val/accuracy"), ("digits", "val/loss")):
        run = tmp_path / "runs" / name / "one"
        (run / "figures").mkdir(parents=True)
        (run / "metrics.csv").write_text(f"step,train/loss,{metric}\n0,0.5,0.25\n")
        for step in (1, 2):
            (run / "figures" / f"{name}-heads-step00000{step}.png").touch()
    return tmp_path / "runs"


def test_shows_what_the_runs_log(runs, tmp_path):
    assert logged_by(runs, []) == (["val/loss", "val/accuracy"], ["digits-heads", "words-heads"])
    assert logged_by(runs, ["words"]) == (["val/accuracy"], ["words-heads"])
    assert logged_by(tmp_path / "none", []) == (list(TASKS), list(PICTURES))


@pytest.mark.slow
def test_a_saved_view(runs, tmp_path):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    with serving() as server:
        command = [sys.executable, "-c", TFZOO, "workspace", "--project", "zoo", "--experiment", "words", "--runs", runs]  # fmt: skip
        env = kept | {"HOME": str(tmp_path)} | server.environment
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{server.address}/somebody/zoo?nw=")
        assert len(done.stdout.splitlines()) == 1
        assert server.http.errors == []
        (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("somebody", "zoo")
    section = view["spec"]["section"]
    panels = [p for s in section["panelBankConfig"]["sections"] for p in s["panels"]]
    curves = [p["config"] for p in panels if p["viewType"] == "Run History Line Plot"]
    assert [c["metrics"] for c in curves] == [["train/loss"], ["val/accuracy"]]
    assert {c["xAxis"] for c in curves} == {"trainer/global_step"}
    kinds = {p["viewType"] for p in panels}
    assert {"Media Browser", "Run Comparer", "Bar Chart"} < kinds
    (runset,) = section["runSets"]
    assert [key["name"] for key in runset["grouping"]] == ["group"]
    assert "words" in json.dumps(runset["filters"])
    assert runset["runFeed"]["columnPinned"]["summary:val/accuracy.max"]


class TestRefusals:
    def test_nobody_to_save_it_as(self, tmp_path, monkeypatch, capsys):
        for key in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
            monkeypatch.delenv(key, raising=False)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        assert main(["workspace"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "wandb login" in line

    def test_a_package_that_is_missing(self, monkeypatch, capsys):
        monkeypatch.setattr(workspace, "find_spec", lambda name: None)
        assert main(["workspace"]) == 2
        assert 'install "tfzoo[workspace]"' in capsys.readouterr().err
