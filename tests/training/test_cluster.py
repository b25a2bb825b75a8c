"""Tasks that are not a trainer's devices are refused before a run's folder is opened."""

from __future__ import annotations

import pytest

from tfzoo.training.cluster import as_job

SETTINGS = {"accelerator": "cpu", "devices": "auto", "num_nodes": 1, "plugins": []}


@pytest.fixture(autouse=True)
def job(monkeypatch):
    """Two tasks on one node of a batch job."""
    for key, value in {"JOB_ID": "7", "JOB_NAME": "x", "NTASKS": "2", "NNODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")


def test_devices_left_open_are_the_tasks():
    settings = dict(SETTINGS)
    as_job(settings)
    assert (settings["devices"], settings["num_nodes"]) == (2, 1)


@pytest.mark.parametrize("devices", [1, "1", 4])
def test_devices_that_are_not_the_tasks(devices):
    with pytest.raises(ValueError, match=r"started 2 tasks on 1 nodes, but the trainer is for"):
        as_job(SETTINGS | {"devices": devices})
