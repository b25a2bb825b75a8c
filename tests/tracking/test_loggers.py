"""Everything a run logs lies in its folder, whatever ends the run."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch.utils.data import DataLoader

from tfzoo.tracking.image_pictures import ImageGrid
from tfzoo.tracking.loggers import MetricsLogger, WandbLogger, log_figure, log_table
from tfzoo.tracking.metrics import MetricsFile


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Line(LightningModule):
    """The smallest thing that trains and validates."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch).pow(2).mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("validation/loss", self.layer(batch).pow(2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*loggers, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return Trainer(logger=list(loggers), accelerator="cpu", **quiet, **arguments)


def numbers() -> DataLoader:
    return DataLoader(torch.arange(4.0)[:, None])


class TestMetrics:
    def test_a_training_run(self, tmp_path):
        fitted = trainer(MetricsLogger(tmp_path), max_epochs=2)
        fitted.fit(Line(), numbers(), numbers())
        assert isinstance(fitted.logger, CSVLogger)
        assert fitted.log_dir == str(tmp_path)
        found = rows(tmp_path)
        assert [r["step"] for r in found if r["train/loss"]] == [str(i) for i in range(8)]
        assert [r["step"] for r in found if r["validation/loss"]] == ["3", "7"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "metrics.csv"]

    def test_a_resumed_run_appends_and_may_log_new_things(self, tmp_path):
        first = MetricsLogger(tmp_path)
        first.log_metrics({"a": 1.0}, step=1)
        second = MetricsLogger(tmp_path)
        second.log_metrics({"a": 2.0, "b": 0.5}, step=2)
        second.log_metrics({"b": 0.25}, step=3)
        second.finalize("success")
        second.log_metrics({"c": 9}, step=4)
        assert [tuple(r.values()) for r in rows(tmp_path)] == [
            ("1", "1.0", "", ""),
            ("2", "2.0", "0.5", ""),
            ("3", "", "0.25", ""),
            ("4", "", "", "9"),
        ]

    def test_a_last_line_cut_short_is_dropped(self, tmp_path):
        (tmp_path / "metrics.csv").write_text("step,a\n1,0.5\n2,0.12")
        MetricsLogger(tmp_path).log_metrics({"a": 0.25}, step=2)
        assert [r["a"] for r in rows(tmp_path)] == ["0.5", "0.25"]
        (tmp_path / "metrics.csv").write_text("st")
        MetricsLogger(tmp_path).log_metrics({"a": 0.75}, step=0)
        assert [r["a"] for r in rows(tmp_path)] == ["0.75"]

    def test_kill_loses_nothing(self, tmp_path):
        code = (
            "import sys, time; from pathlib import Path; from tfzoo.tracking.metrics import MetricsFile\n"
            "file = MetricsFile(Path(sys.argv[1]))\n"
            "for step in range(100): file.log_metrics({'loss': 1 / (step + 1)}, step)\n"
            "print('logged', flush=True); time.sleep(60)"
        )
        path = tmp_path / "metrics.csv"
        child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"logged\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert [r["step"] for r in rows(tmp_path)] == [str(i) for i in range(100)]

    def test_a_row_costs_the_same_however_long_the_run(self, tmp_path):
        file = MetricsFile(tmp_path / "metrics.csv")

        def seconds(count: int) -> float:
            start = time.perf_counter()
            for step in range(count):
                file.log_metrics({"loss": 0.5, "lr": 1e-3}, step)
            return time.perf_counter() - start

        early = seconds(2000)
        seconds(20000)
        assert seconds(2000) < 10 * early
        assert early / 2000 < 1e-3  # 2 % of a training step of 50 ms

    def test_no_disk_left_keeps_what_is_there(self, tmp_path, monkeypatch):
        file = MetricsFile(tmp_path / "metrics.csv")
        file.log_metrics({"a": 1}, 0)
        monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            file.log_metrics({"b": 1}, 1)
        assert [r["a"] for r in rows(tmp_path)] == ["1"]

    def test_travels_to_other_processes(self, tmp_path):
        logger = MetricsLogger(tmp_path)
        logger.log_metrics({"a": 1}, 0)
        pickle.loads(pickle.dumps(logger)).log_metrics({"a": 2}, 1)
        assert [r["a"] for r in rows(tmp_path)] == ["1", "2"]


IMAGE = np.linspace(0, 0.5, 64).reshape(8, 8)


def two_offline_runs(root: Path) -> None:
    """What the process of a user does who trains twice, offline."""
    folder = root / "digits" / "20261123-101500-ab12"
    logger = WandbLogger(folder, tags=["small"], notes=None)
    logger.set_config(CONFIG)
    fitted = trainer(logger, max_epochs=1, default_root_dir=folder, enable_checkpointing=False)
    fitted.fit(Line(), numbers(), numbers())
    log_table([logger], "samples", ["text", "image"], [["真好看", IMAGE]], step=3)
    log_figure([logger], "attention", ImageGrid("a", [IMAGE], ["b"]).draw(), step=3)
    WandbLogger(root / "digits" / "two").log_metrics({"a": 2.0}, 0)


CONFIG = {"model": {"init_args": {"backbone": {"dim": 32}}}, "trainer": {"max_epochs": 1}}


def is_image(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
class TestOffline:
    """W&B without an account, as its own tool reads it back."""

    @pytest.fixture(scope="class")
    def root(self, tmp_path_factory) -> Path:
        """Trains in a process that has no terminal, no account, and a net in which a call is caught."""
        import forked  # not in a process of ours

        root = tmp_path_factory.mktemp("offline")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        environment |= {"HOME": str(root / "home"), "NETRC": str(root / "netrc"), "NO_PROXY": ""}
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            proxy.settimeout(0.1)
            address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            environment |= dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"], address)
            code = (
                "import runpy, sys, tfzoo; from pathlib import Path\n"
                "runpy.run_path(sys.argv[1])['two_offline_runs'](Path(sys.argv[2]))"
            )
            command = [sys.executable, "-c", code, __file__, root / "runs"]
            with (root / "said").open("w") as said:
                forked.run(
                    command,
                    check=True,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                )
            try:
                proxy.accept()
                (root / "called").touch()
            except TimeoutError:
                pass
        return root

    @pytest.fixture(scope="class")
    def records(self, root) -> list[dict]:
        (file,) = root.glob("runs/digits/2026*/wandb/offline-run-*/*.wandb")
        command = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", file]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_no_network_calls(self, root):
        assert not (root / "called").exists()

    def test_one_line_a_run(self, root):
        lines = (root / "said").read_text().splitlines()
        assert [line for line in lines if "wandb:" in line] == []
        assert len([line for line in lines if "W&B is offline" in line]) == 2

    def test_nothing_lies_beside_the_runs(self, root):
        assert list(root.glob("home/**/wandb")) == []
        assert [p.name for p in (root / "runs").iterdir()] == ["digits"]

    def test_names_and_nested_config(self, records):
        run = next(r["run"] for r in records if r["type"] == "run")
        written = run["config"]["update"]
        assert {key: written[key] for key in CONFIG} == CONFIG
        assert set(written) - set(CONFIG) == {"_wandb"}
        assert run["run_id"] == "digits-20261123-101500-ab12"
        assert run["display_name"] == "digits/20261123-101500-ab12"
        assert (run["project"], run["run_group"], run["tags"]) == ("tfzoo", "digits", ["small"])

    def test_metrics_by_step(self, records):
        history = [r["history"]["item"] for r in records if r["type"] == "history"]
        assert [h["trainer/global_step"] for h in history if "train/loss" in h] == [0, 1, 2, 3]
        assert [h["trainer/global_step"] for h in history if "validation/loss" in h] == [3]

    def test_tables_and_pictures(self, root, records):
        (files,) = root.glob("runs/digits/2026*/wandb/offline-run-*/files")
        history = [r["history"]["item"] for r in records if r["type"] == "history"]
        table = next(h["samples.path"] for h in history if "samples.path" in h)
        assert json.loads((files / table).read_text())["data"][0][0] == "真好看"
        # The table's image waits for its upload beside the run, with the brightness it had.
        waiting = [p for p in files.parents[1].glob("data/**/*") if is_image(p)]
        with Image.open(waiting[0]) as kept:
            assert (kept.size, kept.getextrema()) == ((8, 8), (0, 128))
        (path,) = next(h["attention.filenames"] for h in history if "attention.filenames" in h)
        with Image.open(files / path) as kept:
            assert kept.size[0] > 100

    def test_the_next_run_of_a_process_is_another(self, root):
        assert list(root.glob("runs/digits/two/wandb/offline-run-*-digits-two/*.wandb"))


@pytest.mark.slow
def test_an_account_without_a_net_trains_offline(tmp_path):
    import forked

    code = (
        "import sys; from tfzoo.tracking.loggers import WandbLogger\n"
        "WandbLogger(sys.argv[1]).log_metrics({'a': 1.0}, 0)\n"
        "WandbLogger(sys.argv[2], offline=False).log_metrics({'a': 1.0}, 0)"
    )
    environment = {
        "HOME": str(tmp_path),
        "WANDB_API_KEY": "a" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # where nobody answers
        "WANDB_INIT_TIMEOUT": "8",  # enough for wandb to start on a busy machine
    }
    one, two = tmp_path / "e" / "one", tmp_path / "e" / "two"
    # Another test of this process may have left a W&B service running, which is not to be shared.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    done = forked.run(
        [sys.executable, "-c", code, one, two],
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    assert list(one.glob("wandb/offline-run-*/*.wandb")), done.stderr
    assert "ValueError: W&B cannot be used" in done.stderr  # where someone insisted


class TestWhetherOffline:
    @pytest.fixture(autouse=True)
    def nobody(self, tmp_path, monkeypatch):
        for key in [key for key in os.environ if key.startswith("WANDB_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")  # restored afterwards
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))

    @pytest.mark.parametrize(
        ("asked", "environment", "offline"),
        [
            (None, {}, True),
            (None, {"WANDB_API_KEY": "k"}, False),
            (True, {"WANDB_API_KEY": "k"}, True),
            (False, {}, False),
            (False, {"WANDB_MODE": "offline"}, True),
            (True, {"WANDB_MODE": "online"}, False),
            (None, {"WANDB_MODE": "disabled"}, False),
            (None, {"WANDB_BASE_URL": "https://wandb.example.org"}, True),
        ],
    )
    def test_offline_unless_someone_is_there(
        self, tmp_path, monkeypatch, asked, environment, offline
    ):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        assert WandbLogger(tmp_path / "e" / "r", offline=asked).offline is offline

    def test_a_login_in_netrc_counts_for_its_server_alone(self, tmp_path, monkeypatch):
        (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
        assert not WandbLogger(tmp_path / "e" / "r").offline
        monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
        assert WandbLogger(tmp_path / "e" / "r").offline
        (tmp_path / "netrc").write_text("machine ???\n")
        assert WandbLogger(tmp_path / "e" / "r").offline


class Summary:
    """Stands where W&B's run does."""

    def __init__(self) -> None:
        self.summary: dict = {}

    def log(self, metrics) -> None:
        pass


class TestBestValues:
    def logger(self, folder: Path, **modes: str) -> tuple[WandbLogger, dict]:
        logger = WandbLogger(folder, offline=True)
        logger.modes = {f"val/{name}": mode for name, mode in modes.items()}
        logger._experiment = Summary()
        return logger, logger._experiment.summary

    def test_by_what_a_metric_is(self, tmp_path):
        logger, summary = self.logger(tmp_path, surprise="min")
        for value in (0.5, 0.25, 0.75):
            logger.log_metrics({f"val/{n}": value for n in ("loss", "accuracy", "surprise")}, 0)
        assert summary == {
            "val/loss": {"min": 0.25, "last": 0.75},
            "val/accuracy": {"max": 0.75, "last": 0.75},
            "val/surprise": {"min": 0.25, "last": 0.75},
        }

    def test_a_run_that_goes_on_remembers_what_was_best(self, tmp_path):
        MetricsLogger(tmp_path).log_metrics({"val/loss": 0.25, "val/f1": 0.5}, 0)
        logger, summary = self.logger(tmp_path)
        logger.log_metrics({"val/loss": 0.75, "val/f1": float("nan")}, 1)
        assert summary["val/loss"] == {"min": 0.25, "last": 0.75}
        assert summary["val/f1"]["max"] == 0.5

    def test_training_has_no_best(self, tmp_path):
        logger, summary = self.logger(tmp_path)
        logger.log_metrics({"train/loss": 0.5}, 0)
        assert summary == {}


def test_what_was_not_set_is_no_setting(tmp_path):
    logger = WandbLogger(tmp_path, offline=True)
    logger.set_config({"a": None, "b": {"c": None, "d": 0}, "e": [{"f": None, "g": ""}], "h": {}})
    assert logger._wandb_init["config"] == {"b": {"d": 0}, "e": [{"g": ""}], "h": {}}


def test_loggers_that_take_no_pictures_are_passed_over(tmp_path):
    loggers = [MetricsLogger(tmp_path)]
    log_table(loggers, "samples", ["text"], [["a"]], 0)
    log_figure(loggers, "attention", tmp_path / "missing.png", 0)
    assert list(tmp_path.iterdir()) == []
