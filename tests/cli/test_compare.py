"""`tfzoo compare`: what it says of runs in the terminal, and what its page holds."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from PIL import Image
from read_tables import cells
from written_runs import LIFE, config, kill, write_run

from tfzoo.cli import main
from tfzoo.tracking.runs import Run
from tfzoo.tracking.samples import write_table


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two runs of one experiment, the second of which was killed, and one of another task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfzoo.slurm.queue.jobs", lambda *_: {})
    runs = tmp_path / "runs"
    newer = LIFE | {"versions": {"torch": "2.14.0", "tfzoo": "0.1.0"}}
    write_run(runs, "gen/a", {10: 2.0, 20: 1.5})
    kill(write_run(runs, "gen/b", {10: 1.8, 15: 1.25}, config(depth=4), lives=[newer]))
    other = config("TextClassification", depth=8)
    other["model"]["init_args"]["pooling"] = "cls"
    write_run(runs, "class/c", {20: 0.5}, other, "val/accuracy")
    return runs


def told(capsys, *said: str) -> str:
    assert main(["compare", *said]) == 0
    return capsys.readouterr().out


def test_the_terminal_shows_what_differs_the_best_and_the_curves(root, capsys):
    text = told(capsys, "runs/gen/a", "gen/b")
    assert text.startswith("A  gen/a  finished\nB  gen/b  killed\n")
    rows = cells(text)
    # The cache's place is no difference.
    assert rows[:2] == [["setting", "A", "B"], ["model.backbone.depth", "2", "4"]]
    assert rows[2:4] == [["setting", "A", "B"], ["torch", "2.13.0", "2.14.0"]]
    figures = {row[0]: row[1:] for row in rows[5:]}
    assert figures["state"] == ["finished", "killed"]
    assert figures["best val/loss"] == ["1.5 at 20", "1.25 at 15 *"]
    assert "last val/loss" not in figures  # the same as the best
    assert figures["train/loss"] == ["3", "2.5 *"]
    assert figures["speed"] == ["1,000 tokens/s", "1,000 tokens/s"]
    assert [line.strip() for line in text.splitlines() if "is better" in line] == [
        "val/loss (lower is better)",
        "train/loss (lower is better)",
    ]
    curves = text[text.index("val/loss (lower") :]
    assert re.search("[\u2801-\u28ff]{3}", curves)  # Braille
    assert {"A", "B"} <= set(curves)


def test_a_metric_that_is_asked_for_is_drawn_alone(root, capsys):
    text = told(capsys, "gen/a", "gen/b", "--metric", "train/loss")
    assert "train/loss (lower is better)" in text
    assert "val/loss (lower is better)" not in text


def test_of_many_runs_the_best_are_compared(root, capsys):
    for number in range(15):
        write_run(root, f"many/{number:02d}", {10: 3.0 - abs(number - 7) / 10})
    said = told(capsys, "runs/many")
    assert said.startswith("the 12 best of 15 runs by val/loss; --most N compares more of them")
    named = [line.split()[1] for line in said.splitlines()[2:14]]
    assert set(named[:4]) == {"many/00", "many/14", "many/01", "many/13"}
    assert "many/07" not in said  # the worst
    assert "of 15" not in told(capsys, "runs/many", "--most", "15")
    assert "by train/loss" in told(capsys, "runs/many", "--metric", "train/loss", "--most", "2")
    assert main(["compare", "runs/many", "--most", "1"]) == 2
    assert "--most must be at least 2" in capsys.readouterr().err


def test_folders_above_runs_and_ids_mean_runs(root, capsys):
    assert told(capsys, "runs/gen").startswith("A  gen/a")
    assert told(capsys, "a", "b", "a").splitlines()[:2] == [
        "A  gen/a  finished",
        "B  gen/b  killed",
    ]
    (root / "gen" / "sweeps").mkdir()  # what a shell makes of runs/gen/*
    assert told(capsys, "runs/gen/a", "runs/gen/b", "runs/gen/sweeps").count("gen/") == 2


def test_different_tasks_are_compared_by_what_they_share(root, capsys):
    text = told(capsys, "gen/a", "class/c")
    assert (
        "different tasks (Generation, TextClassification): only what they share is compared" in text
    )
    rows = cells(text)
    keys = [row[0] for row in rows]
    assert "model.backbone.depth" in keys
    assert "model.pooling" not in keys
    assert "best val/accuracy" not in keys
    assert "*" not in "".join(next(row for row in rows if row[0] == "train/loss"))


def test_equal_configs_are_said_to_be(root, capsys):
    shutil.copytree(root / "gen/a", root / "gen/again")
    assert "the configs say the same" in told(capsys, "gen/a", "gen/again")
    text = (root / "gen/a/config.yaml").read_text()
    (root / "gen/again/config.yaml").write_text(text.replace("/somewhere", "/elsewhere"))
    assert "data.cache_dir" in told(capsys, "gen/a", "gen/again")


def test_folders_of_killed_and_beginning_runs_are_compared_as_far_as_they_go(root, capsys):
    (root / "gen/a/config.yaml").write_text("")
    (root / "gen/b/provenance.json").write_text('[{"star')
    (root / "gen/b/test.json").write_text('{"test/lo')
    (root / "gen/b/metrics.csv").write_text("step,val/loss\n1,")
    text = told(capsys, "gen/a", "gen/b", "--html", "page.html")
    assert "A has no config that can be read" in text
    assert "B has no metrics yet" in text
    assert (root.parent / "page.html").stat().st_size > 1000
    for run in ("gen/a", "gen/b"):
        (root / run / "metrics.csv").unlink()
    assert "figures" in told(capsys, "gen/a", "gen/b", "--html", "page.html")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (["gen/a"], "to compare takes two runs or more"),
        (
            ["gen/a", "gen/x"],
            "there is no run 'gen/x', neither here nor in runs, did you mean 'gen/",
        ),
        (["gen/a", "gen/b", "--metric", "val/los"], "did you mean 'val/loss'?"),
        ([], "the following arguments are required"),
    ],
)
def test_mistakes(root, capsys, said, error):
    assert main(["compare", *said]) == 2
    told = capsys.readouterr().err
    assert error in told
    assert told.count("\n") == 1


def illustrated(run: Run, colour: str, translation: str) -> None:
    run.figures.mkdir()
    for step in (10, 20):
        Image.new("RGB", (40, 30), colour).save(run.figures / f"attention-step{step:06d}.png")
    write_table(
        run.figures / "samples-step000020.md",
        ["source", "translation"],
        [["a <b> | c", translation], ["two\nlines", "same"]],
    )


def test_the_page_holds_everything_and_escapes_it(root, capsys):
    nasty = "<script>alert(1)</script>"
    illustrated(Run(root / "gen/a"), "red", nasty)
    illustrated(Run(root / "gen/b"), "blue", "other")
    (root / "gen/b/figures/attention-step000020.png").write_bytes(b"\x89PNG half")
    tests = {"test/loss": 1.0}
    (root / "gen/a/test.json").write_text(json.dumps(tests))
    assert "page in page.html" in told(capsys, "gen/a", "gen/b", "--html", "page.html")
    text = (root.parent / "page.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<svg") == 2
    # The picture that is not whole is not shown.
    assert text.count("<img") == text.count("data:image/png;base64,") == 1
    assert "a &lt;b&gt; | c" in text
    assert text.count("two\nlines") == 1  # what both show alike stands there once
    assert "<td>model.backbone.depth</td><td>2</td><td>4</td>" in text
    assert "<th>test/loss</th><td>1</td><td>-</td>" in text
    assert '<td class="best">1.25 at 15</td>' in text
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)\w""", text)


def test_samples_that_differ_in_form_stand_side_by_side(root, capsys):
    illustrated(Run(root / "gen/a"), "red", "x")
    Run(root / "gen/b").figures.mkdir()
    write_table(Run(root / "gen/b").figures / "samples-step000010.md", ["text"], [["alone"]])
    told(capsys, "gen/a", "gen/b", "--html", "page.html")
    text = (root.parent / "page.html").read_text()
    assert "<td>alone</td>" in text
    assert text.count("<td>same</td>") == 1


def test_a_page_in_no_folder_is_a_mistake_in_a_line(root, capsys):
    (root.parent / "file").write_text("")
    assert main(["compare", "gen/a", "gen/b", "--html", "file/page.html"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_many_runs_have_letters_of_their_own():
    from tfzoo.cli.compared import _letter

    assert [_letter(place) for place in (0, 25, 26, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "BA",
        "ZZ",
        "AAA",
    ]
