"""What the dashboard is told of a run, from whatever of its files there is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfzoo.tracking.gathered import gathered, stamp
from tfzoo.tracking.loggers import MetricsLogger, log_figure, log_table
from tfzoo.tracking.records import Records, read
from tfzoo.tracking.runs import Run
from tfzoo.tracking.samples import write_table
from tfzoo.tracking.trackio_logger import TrackioLogger


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "digits" / "1")
    run.folder.mkdir(parents=True)
    return run


def told(run: Run) -> list[tuple[int, dict]]:
    return [(record["step"], record["metrics"]) for record in gathered(run)]


def config(run: Run) -> dict:
    return gathered(run)[0]["config"]


def draw(path: Path, shade: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), shade).save(path)
    return path


def image(path: str) -> dict:
    return {"_type": "trackio.image", "file_path": path}


def test_a_run_that_knew_no_trackio(run):
    run.metrics_file.write_text("step,train/loss,val/loss\n9,0.5,\n19,0.25,\n19,,nan\n29,0.1")
    run.config_file.write_text(
        "model:\n  depth: 2\n  bias: null\nruns: here\nrun_id: 1\n"
        "trainer: {max_steps: 3, logger: true}\n"
    )
    draw(run.figures / "attention-step000020.png")
    write_table(run.figures / "samples-step000020.md", ["text", "p"], [["真|好<b>\n看", 0.5]])
    table = {"_type": "trackio.table", "_value": [{"text": "真|好<b>\n看", "p": "0.5"}]}
    assert told(run) == [
        (9, {"train/loss": 0.5}),
        (19, {"train/loss": 0.25}),
        (19, {"val/loss": "NaN"}),
        (20, {"attention": image("digits/1/figures/attention-step000020.png")}),
        (20, {"samples": table}),
    ]
    assert {(r["project"], r["run"], r["run_id"]) for r in gathered(run)} == {
        ("tfzoo", "digits/1", "digits/1")
    }
    created = config(run).pop("_Created")
    assert config(run) == {
        "model": {"depth": 2},
        "trainer": {"max_steps": 3},
        "_Group": "digits",
        "_Created": created,
    }
    assert [bool(record["config"]) for record in gathered(run)] == [True] + 4 * [False]


def test_a_run_that_both_logged(run):
    loggers = [MetricsLogger(run.folder), TrackioLogger(run.folder, project="mine")]
    for step in range(4):
        for logger in loggers:
            logger.log_metrics({"loss": 1 / (step + 1)}, step)
    picture = draw(run.figures / "attention-step000004.png")
    write_table(run.figures / "samples-step000004.md", ["a"], [["b"]])
    log_figure(loggers, "attention", picture, step=4)
    log_table(loggers, "samples", ["a"], [["b"]], step=4)
    steps = [step for step, _ in told(run)]
    assert steps == [0, 1, 2, 3, 4, 4]  # nothing twice
    times = [r["timestamp"] for r in gathered(run) if "loss" in r["metrics"]]
    assert times == [r["timestamp"] for r in read(run.folder / "trackio/records.jsonl")[:4]]
    assert {record["project"] for record in gathered(run)} == {"mine"}


def test_only_trackio(run):
    TrackioLogger(run.folder).log_metrics({"loss": 0.5}, 3)
    assert told(run) == [(3, {"loss": 0.5})]


def test_a_training_that_went_on_without_the_logger(run):
    """It has rewound metrics.csv and not the records: what they say of later steps was taken back."""
    both = [MetricsLogger(run.folder), TrackioLogger(run.folder)]
    for logger in both:
        for step in range(6):
            logger.log_metrics({"loss": float(step)}, step)
    again = MetricsLogger(run.folder)
    again.rewind(4)
    again.log_metrics({"loss": 40.0}, 4)
    assert told(run) == [(s, {"loss": v}) for s, v in enumerate([0.0, 1.0, 2.0, 3.0, 40.0])]


def test_a_picture_drawn_again_is_shown_once(run):
    for _ in range(2):
        log_table([TrackioLogger(run.folder)], "samples", ["a"], [["b"]], step=4)
    assert len(told(run)) == 1


def test_a_picture_in_one_file_is_shown_as_it_was_logged_last(run):
    curves = draw(run.figures / "curves.png")
    for step in (4, 8):
        log_figure([TrackioLogger(run.folder)], "curves", curves, step=step)
    assert told(run) == [(8, {"curves": image("digits/1/trackio/media/curves-step000008.png")})]


def test_a_figure_without_a_step_is_of_the_last(run):
    run.metrics_file.write_text("step,loss\n9,0.5\n")
    draw(run.figures / "curves.png")
    (run.figures / "notes.txt").write_text("no picture")
    assert told(run)[1:] == [(10, {"curves": image("digits/1/figures/curves.png")})]


def test_times_of_a_run_that_noted_none_lie_between_its_start_and_its_end(run):
    run.metrics_file.write_text("step,loss\n0,3\n1,2\n2,1\n3,0\n")
    os.utime(run.metrics_file, (1000040, 1000040))
    (run.folder / "provenance.json").write_text('[{"started": "1970-01-12T13:46:40+00:00"}]')
    times = [record["timestamp"][-14:-6] for record in gathered(run)]
    assert times == ["13:46:50", "13:47:00", "13:47:10", "13:47:20"]


def test_circumstances_that_may_matter(run):
    run.metrics_file.write_text("step,loss\n0,3\n")
    life = {"started": "x", "command": ["tfzoo"], "git": {"commit": "ab"}, "job": None, "seed": 1}
    (run.folder / "provenance.json").write_text(json.dumps([{"seed": 7}, life]))
    assert config(run)["provenance"] == {"git": {"commit": "ab"}, "seed": 1}


def test_what_only_the_logger_was_told(run):
    logger = TrackioLogger(run.folder)
    logger.set_config({"model": {"depth": 3}, "parameters": 12, "_mine": 1})
    logger.log_metrics({"loss": 1.0}, 0)
    assert (config(run)["model"], config(run)["parameters"]) == ({"depth": 3}, 12)
    assert not {"_mine", "provenance"} & config(run).keys()
    run.config_file.write_text("model: {depth: 4}\n")  # as it is now, after a resume say
    assert (config(run)["model"], config(run)["parameters"]) == ({"depth": 4}, 12)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b""),
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"[1, 2]"),
        ("provenance.json", b'[{"started": "2026'),
        ("provenance.json", b'{"a": 1}'),
        ("trackio/records.jsonl", b'{"metrics": {"a": 1}, "step'),
        ("trackio/records.jsonl", b'[]\n7\n{"metrics": 1}\n{"metrics": {}, "step": "x"}\n\xff\n'),
        ("figures/samples-step000010.md", b"no table"),
    ],
)
def test_damaged_files_take_nothing_else_with_them(run, name, content):
    run.metrics_file.write_text("step,loss\n9,0.5\nx,1\n,\n10,0.2")
    (run.folder / name).parent.mkdir(exist_ok=True)
    (run.folder / name).write_bytes(content)
    assert told(run) == [(9, {"loss": 0.5})]


@pytest.mark.parametrize("content", [None, "", "step,loss", "step,loss\n"])
def test_a_run_that_has_logged_nothing_yet(run, content):
    run.config_file.write_text("a: 1")
    if content is not None:
        run.metrics_file.write_text(content)
    assert gathered(run) == []


def test_what_another_wrote_into_a_record_is_no_page(run):
    """A folder may come from anybody: of a record only text, numbers and its own pictures are shown."""
    evil = {
        "report": {"_type": "trackio.markdown", "_value": "<script>"},
        "html": {"_type": "trackio.html", "file_path": "figures/a.html"},
        "picture": {"_type": "trackio.image", "file_path": "a.png", "_resolvedUrl": "http://x/"},
        "table": {"_type": "trackio.table", "_value": [{"a": {"_type": "trackio.html"}}]},
        "loss": 0.5,
    }
    Records(run).log(evil, 0)
    assert told(run) == [
        (
            0,
            {
                "picture": image("digits/1/a.png"),
                "table": {"_type": "trackio.table", "_value": [{"a": None}]},
                "loss": 0.5,
            },
        )
    ]


def test_the_same_content_has_the_same_name_and_a_copy_another(run):
    run.metrics_file.write_text("step,loss\n9,0.5\n9,0.5\n19,0.2\n")
    os.utime(run.metrics_file, (10, 10))
    names = [record["log_id"] for record in gathered(run)]
    os.utime(run.metrics_file, (20, 20))  # as another row would
    assert names == [record["log_id"] for record in gathered(run)]
    copy = Run(run.folder.with_name("2"))
    copy.folder.mkdir()
    copy.metrics_file.write_bytes(run.metrics_file.read_bytes())
    os.utime(copy.metrics_file, (10, 10))
    assert not set(names) & {record["log_id"] for record in gathered(copy)}


def test_what_changes_a_run_is_noticed(run):
    seen = {stamp(run)}
    logger = TrackioLogger(run.folder)

    def add(change):
        change()
        before = len(seen)
        seen.add(stamp(run))
        assert len(seen) == before + 1

    add(lambda: run.metrics_file.write_text("step,loss\n"))
    add(lambda: MetricsLogger(run.folder).log_metrics({"loss": np.float32(1)}, 0))
    add(lambda: logger.log_metrics({"loss": 1}, 0))
    add(lambda: run.config_file.write_text("a: 1"))
    add(lambda: draw(run.figures / "a.png"))
