"""What a training leaves for the dashboard, whatever ends it, and Lightning's contract of loggers."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from tfzoo.tracking.figures import save
from tfzoo.tracking.image_pictures import ImageGrid
from tfzoo.tracking.loggers import log_figure, log_table
from tfzoo.tracking.records import read
from tfzoo.tracking.runs import Run
from tfzoo.tracking.trackio_logger import TrackioLogger

CONFIG = {"model": {"init_args": {"backbone": {"dim": 32}}}, "trainer": {"max_epochs": 1}}
PIXELS = np.linspace(0, 0.5, 64).reshape(8, 8)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "digits" / "20261123-101500-ab12"


def records(folder: Path) -> list[dict]:
    return read(folder / "trackio" / "records.jsonl")


def logged(folder: Path) -> list[tuple[int, dict]]:
    return [(record["step"], record["metrics"]) for record in records(folder)]


class Model(BoringModel):
    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        self.log("train/loss", loss["loss"])
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", super().validation_step(batch, index)["x"])


def fit(logger: TrackioLogger, steps: int, **settings) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        logger=logger,
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=1,
        val_check_interval=2,
        log_every_n_steps=1,
        enable_checkpointing=False,
        default_root_dir=logger.save_dir,
        **quiet,
        **settings,
    )
    trainer.fit(Model())
    return trainer


def test_a_training_is_logged_at_its_global_steps(folder):
    logger = TrackioLogger(folder)
    logger.set_config(CONFIG)
    fit(logger, 4)
    rows = logged(folder)
    assert [step for step, row in rows if "train/loss" in row] == [0, 1, 2, 3]
    assert [step for step, row in rows if "val/loss" in row] == [1, 3]
    assert all(isinstance(row["train/loss"], float) for _, row in rows if "train/loss" in row)
    assert records(folder)[0]["config"] == CONFIG
    assert {record["run"] for record in records(folder)} == {"digits/20261123-101500-ab12"}


def test_a_trainer_knows_it_as_any_logger(folder):
    logger = TrackioLogger(folder, project="mine")
    assert isinstance(logger, Logger)
    assert (logger.name, logger.version) == ("mine", "digits/20261123-101500-ab12")
    assert logger.save_dir == str(folder)
    assert not folder.exists()  # nothing is written before there is something to write
    logger.experiment.log({"a": 1}, step=3)
    logger.finalize("success")
    logger.log_metrics({"a": 2}, step=4)
    assert logged(folder) == [(3, {"a": 1}), (4, {"a": 2})]
    assert records(folder)[0]["project"] == "mine"


def test_only_the_first_process_writes(folder, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = TrackioLogger(folder)
    logger.experiment.log({"a": 1}, step=0)
    logger.log_metrics({"a": 1}, step=0)
    logger.log_hyperparams({"a": 1})
    logger.log_image("picture", [Image.new("L", (4, 4))], step=0)
    logger.log_table("samples", ["a"], [[1]], step=0)
    logger.rewind(0)
    logger.finalize("success")
    assert not folder.exists()


def test_settings_arrive_with_the_next_row(folder):
    logger = TrackioLogger(folder)
    logger.set_config({"model": {"dim": 32}})
    logger.log_hyperparams(Namespace(parameters=12))
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_hyperparams({"data": Path("x")})
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"a": 1.0}, 2)
    settings = {"model": {"dim": 32}, "parameters": 12}
    assert [r["config"] for r in records(folder)] == [settings, settings | {"data": "x"}, None]


def test_numbers_json_does_not_know(folder):
    values = {"a": torch.tensor(0.5), "b": float("nan"), "c": -np.inf, "d": np.float32(2), "e": 3}
    TrackioLogger(folder).log_metrics(values, 0)
    # As trackio.utils.serialize_values writes them.
    told = {"a": 0.5, "b": "NaN", "c": "-Infinity", "d": 2.0, "e": 3}
    assert logged(folder) == [(0, told)]
    assert "NaN," not in (folder / "trackio/records.jsonl").read_text()


def test_a_picture_of_the_runs_figures_is_not_kept_twice(folder):
    file = folder / "figures" / "attention-step000004.png"
    save(ImageGrid("a", [PIXELS], ["b"]).draw(), file)
    log_figure([TrackioLogger(folder)], "attention", file, step=4)
    picture = logged(folder)[0][1]["attention"]
    assert (picture["_type"], picture["file_path"]) == (
        "trackio.image",
        "figures/attention-step000004.png",
    )
    assert not (folder / "trackio" / "media").exists()


@pytest.mark.parametrize("where", ["figures/curves.png", "../curves.png"])
def test_a_picture_that_another_may_replace_is_kept(folder, where):
    """Be it written over at the next validation, or somewhere else."""
    file = folder / where
    file.parent.mkdir(parents=True, exist_ok=True)
    for step, shade in ((2, 50), (4, 200)):
        Image.new("L", (4, 4), shade).save(file)
        log_figure([TrackioLogger(folder)], "all curves", file, step=step)
    kept = [folder / row["all curves"]["file_path"] for _, row in logged(folder)]
    assert [Image.open(path).getpixel((0, 0)) for path in kept] == [50, 200]


def test_a_figure_and_a_table_with_images(folder):
    logger = TrackioLogger(folder)
    log_figure([logger], "attention", ImageGrid("a", [PIXELS], ["b"]).draw(), step=3)
    log_table([logger], "samples", ["text", "image"], [["真好看", PIXELS], ["b", PIXELS]], step=3)
    (_, figure), (step, table) = logged(folder)
    with Image.open(folder / figure["attention"]["file_path"]) as kept:
        assert kept.size[0] > 100
    assert (step, table["samples"]["_type"]) == (3, "trackio.table")
    first, second = table["samples"]["_value"]
    assert first["text"] == "真好看"
    assert first["image"]["file_path"] != second["image"]["file_path"]
    with Image.open(folder / first["image"]["file_path"]) as kept:
        assert (kept.size, kept.getextrema()) == ((8, 8), (0, 128))  # with the brightness it had


def test_a_resumed_run_goes_on_without_a_step_twice(folder):
    first = TrackioLogger(folder)
    for step in range(6):
        first.log_metrics({"loss": step}, step)
        if step in (1, 3, 5):  # a validation after it, at as many steps done
            first.log_table("samples", ["a"], [[step]], step + 1)
    second = TrackioLogger(folder)  # the checkpoint was of four steps done
    second.rewind(4)
    for step in range(4, 6):
        second.log_metrics({"loss": step}, step)
    rows = logged(folder)
    assert [step for step, row in rows if "loss" in row] == [0, 1, 2, 3, 4, 5]
    assert [step for step, row in rows if "samples" in row] == [2, 4]
    assert len({record["run_id"] for record in records(folder)}) == 1


def test_a_line_that_a_kill_cut_short_is_dropped(folder):
    TrackioLogger(folder).log_metrics({"a": 1}, 0)
    file = folder / "trackio" / "records.jsonl"
    whole = file.read_bytes()
    for cut in (1, 20, len(whole) - 1):
        file.write_bytes(whole + whole[:cut])
        assert logged(folder) == [(0, {"a": 1})]
        TrackioLogger(folder).log_metrics({"a": 2}, 1)
        assert logged(folder) == [(0, {"a": 1}), (1, {"a": 2})]


def test_kill_loses_nothing(folder):
    code = (
        "import sys, time; from pathlib import Path; from tfzoo.tracking.records import Records\n"
        "from tfzoo.tracking.runs import Run; records = Records(Run(Path(sys.argv[1])))\n"
        "for step in range(100): records.log({'loss': 1 / (step + 1)}, step)\n"
        "print('logged', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"logged\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert [step for step, _ in logged(folder)] == list(range(100))


def test_two_runs_of_one_process_with_two_roots(tmp_path):
    loggers = [TrackioLogger(tmp_path / root / "a" / "1") for root in ("here", "there")]
    for step in range(3):
        for value, logger in enumerate(loggers):
            logger.log_metrics({"value": value}, step)
    for value, logger in enumerate(loggers):
        assert logged(Path(logger.save_dir)) == [(step, {"value": value}) for step in range(3)]


def test_no_disk_left_is_told_of_the_file(folder, monkeypatch):
    logger = TrackioLogger(folder)
    logger.log_metrics({"a": 1}, 0)

    class Full:
        """A file of which a part is still written."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, line):
            if len(line) < 40:
                raise OSError(28, "No space left on device")
            return self.file.write(line[:40])

    logger.experiment.file = Full(logger.experiment.file)
    with pytest.raises(OSError, match=r"records\.jsonl"):
        logger.log_metrics({"a": 2}, 1)
    assert (folder / "trackio/records.jsonl").read_bytes().endswith(b"\n")
    assert logged(folder) == [(0, {"a": 1})]


def test_travels_to_other_processes(folder):
    logger = TrackioLogger(folder)
    logger.log_metrics({"a": 1}, 0)
    pickle.loads(pickle.dumps(logger)).log_metrics({"a": 2}, 1)
    assert [row["a"] for _, row in logged(folder)] == [1, 2]


@pytest.mark.slow
def test_trackio_itself_is_not_loaded_and_nothing_is_said(folder):
    code = (
        "import sys; from tfzoo.tracking.trackio_logger import TrackioLogger\n"
        "logger = TrackioLogger(sys.argv[1]); logger.log_metrics({'a': 1}, 0)\n"
        "logger.finalize('success'); assert 'trackio' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((Run(folder).folder / "trackio/records.jsonl").read_text())["step"] == 0
