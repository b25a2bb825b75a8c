"""Tokens a second and the share of the peak are those of the steps between two logs, and none of metrics.csv."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from small_tasks import generation, language_batch

from tfzoo.cli import main
from tfzoo.tasks import Generation
from tfzoo.training import throughput
from tfzoo.training.rehearsal import Precision
from tfzoo.training.throughput import Throughput, known_peak, step_flops

PEAK = 1e9
TOKENS = 32 * 4  # of a batch, of which each counts


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A training step takes two seconds, one of validation a hundred."""
    now = SimpleNamespace(seconds=1000.0)
    steps = {"training_step": 2.0, "validation_step": 100.0}

    def taking(name: str) -> None:
        usual = getattr(Generation, name)

        def step(task, batch, index):
            now.seconds += steps[name]
            return usual(task, batch, index)

        monkeypatch.setattr(Generation, name, step)

    for name in steps:
        taking(name)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


@pytest.mark.slow
def test_it_is_logged_beside_metrics_csv(experiment, tmp_path, clock):
    loggers = [
        {"class_path": "tfzoo.tracking.loggers.MetricsLogger"},
        {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path / "seen"), "name": "", "version": ""}},
    ]  # fmt: skip
    callback = {"class_path": "Throughput", "init_args": {"device_flops": PEAK}}
    arguments = [
        *["fit", "-c", str(experiment("Generation")), f"--runs={tmp_path}", "--run_id=1"],
        *["--trainer.max_steps=12", "--trainer.log_every_n_steps=2"],
        *["--trainer.val_check_interval=3", "--trainer.accumulate_grad_batches=2"],
        f"--trainer.logger={json.dumps(loggers)}",
        f"--trainer.callbacks+={json.dumps(callback)}",
    ]
    assert main(arguments) == 0
    with (tmp_path / "seen/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["throughput/tokens_per_second"]]
    assert len(rows) == 5
    assert [int(row["step"]) for row in rows] == [3, 5, 7, 9, 11]
    speeds = [float(row["throughput/tokens_per_second"]) for row in rows]
    assert max(speeds) == TOKENS / 2
    assert min(speeds) > TOKENS / 4  # an epoch's last batch is smaller
    for row, speed in zip(rows, speeds, strict=True):
        assert float(row["throughput/samples_per_second"]) == pytest.approx(speed / 32)
        used = float(row["throughput/flops_per_second"])
        assert float(row["throughput/mfu"]) == pytest.approx(used / PEAK)
        assert used > 0
    assert "throughput" not in (tmp_path / "generation/1/metrics.csv").read_text()


def test_the_operations_are_those_of_the_step_and_the_task_stays_as_it_is():
    task = generation()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    batch = language_batch(task)
    counted = step_flops(task, batch, Precision.of("32-true"))
    weights = sum(
        p.numel() for n, p in task.named_parameters() if p.dim() == 2 and "table" not in n
    )
    assert counted > 6 * weights * batch.tokens.numel()
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_peaks_of_devices(monkeypatch):
    assert known_peak(torch.device("cpu"), torch.bfloat16) is None
    for name, peak in (
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 NVL", 989.4e12),
        ("NVIDIA H200", 1.0e15),
        ("NVIDIA A100-SXM4-80GB", 312e12),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        found = known_peak(torch.device("cuda", 0), torch.bfloat16)
        assert found == pytest.approx(peak, rel=0.05), name


def test_a_peak_that_is_none_is_refused():
    with pytest.raises(ValueError, match="device_flops of Throughput must be above 0"):
        Throughput(device_flops=0.0)
