"""What a run's folder says of how the run came about: no secrets, and nothing lost."""

import json
import os
import subprocess

import pytest

from tfzoo.tracking import provenance
from tfzoo.tracking.runs import Run

DATA = {"train": {"rows": 8, "hash": "a"}, "test": {"rows": 8, "hash": "b"}}


def git(folder, *arguments: str) -> str:
    names = {
        f"GIT_{who}_{what}": "a@b.c"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=os.environ | names,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_the_commit_and_whether_tracked_files_differ(tmp_path, monkeypatch):
    assert provenance.repository(tmp_path) is None
    git(tmp_path, "init")
    assert provenance.repository(tmp_path) is None  # without a commit
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "new").touch()  # not tracked
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.repository(inner) == {"commit": commit, "changed": False}
    (tmp_path / "a").write_text("2")
    assert provenance.repository(inner) == {"commit": commit, "changed": True}
    monkeypatch.setenv("PATH", "")
    assert provenance.repository(inner) is None


@pytest.mark.parametrize(
    "given",
    [
        ["--logger.api_key=hush"],
        ["--logger.api_key", "hush"],
        ["--hf-token", "hush", "--seed=1"],
        ["--x.client_secret=hush"],
        ["--password", "hush"],
        ['--trainer.logger={"class_path": "WandbLogger", "init_args": {"api_key": "hush"}}'],
        ["--trainer.logger", "{class_path: X, init_args: {token: hush, tags: [a]}}"],
        ["--data.path=https://me:hush@example.org/set"],
        ["--data.path=https://example.org/set?a=b&token=hush"],
        ["--x={accessToken: hush}"],
        ["--x", '{"api_key": "a\\"hush"}'],
    ],
    ids=lambda given: given[0][:20],
)
def test_secrets_stay_out_of_the_command_line(given):
    kept = provenance.without_secrets(["tfzoo", "fit", *given, "--trainer.max_steps=3"])
    assert "hush" not in " ".join(kept)
    assert provenance.HIDDEN in " ".join(kept)
    assert kept[-1] == "--trainer.max_steps=3"
    assert len(kept) == 3 + len(given)


def test_what_is_no_secret_is_kept():
    said = [
        "--data.tokenizer=bpe",
        "--data.batch_tokens",
        "64",
        "--model.token_dropout=0.3",
        "--model.pooling=cls",
        '--trainer.callbacks=[{"class_path": "Last", "init_args": {"keep": 9}}]',
        "--data.path=runs/key/a.csv",
    ]
    assert provenance.without_secrets(said) == said


def test_each_start_adds_an_entry_and_tells_what_differs_from_the_first(tmp_path):
    run = Run(tmp_path / "e" / "1")
    first = provenance.entry(["tfzoo", "fit"], "0.1", data=DATA, seed=1)
    assert provenance.append(run, first) == []
    assert provenance.append(run, first | {"seed": 2}) == []
    other = {"train": {"rows": 9, "hash": "c"}, "test": {"rows": 8, "hash": "d"}}
    now = provenance.entry(["tfzoo", "fit"], "0.2", data=other)
    now["versions"]["torch"] = "3.0"
    now["versions"]["numpy"] = "9"
    torch = first["versions"]["torch"]
    wanted = [
        "the train split (8 rows, now 9)",
        "the test split (other rows)",
        f"torch ({torch}, now 3.0)",
        "tfzoo (0.1, now 0.2)",
    ]
    assert provenance.append(run, now) == wanted
    assert provenance.append(run, now) == wanted  # the first entry is what the run began as
    entries = json.loads((run.folder / "provenance.json").read_text())
    assert entries[:3:2] == [first, now]
    assert len(entries) == 4
    assert first["versions"]["python"].startswith("3.")
    assert {"lightning", "datasets", "tokenizers", "timm", "numpy"} <= first["versions"].keys()
    assert first["machine"]["cores"] >= 1


@pytest.mark.parametrize("content", ["[{", "{}", "[1]"])
def test_a_damaged_file_is_set_aside(content, tmp_path):
    run = Run(tmp_path)
    (tmp_path / "provenance.json").write_text(content)
    assert provenance.append(run, {"data": DATA}) == []
    assert json.loads((tmp_path / "provenance.json").read_text()) == [{"data": DATA}]
    assert (tmp_path / "provenance.json.damaged").read_text() == content
