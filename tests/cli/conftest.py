"""Runs as `tfzoo jobs` and `tfzoo runs` find them."""

from __future__ import annotations

import json

import pytest

from tfzoo.tracking.runs import Run
from tfzoo.tracking.submitted import Submitted, now


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A sweep of two points and a run beside it; no SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfzoo.slurm.queue.jobs", lambda *_: {})
    for index, (depth, loss) in enumerate([(2, 1.5), (4, 0.5)]):
        run = Run(tmp_path / "runs" / "gen" / f"s-depth={depth}")
        run.folder.mkdir(parents=True)
        run.metrics_file.write_text(f"step,train/loss,val/loss\n9,{loss},\n9,,{loss}\n")
        run.config_file.write_text("trainer:\n  max_steps: 20\n")
        sweep = {"id": "s", "index": index, "point": {"model.backbone.depth": depth}}
        Submitted(f"7_{index}", now(), "/", [], {}, "/s", [], "", sweep).write(run)
        ended = {"time": now(), "how": "finished", "step": 20}
        job = {"id": f"7_{index}", "restarts": 0, "nodes": "sn1"}
        (run.folder / "provenance.json").write_text(
            json.dumps([{"started": now(), "job": job, "ended": ended}])
        )
    plain = Run(tmp_path / "runs" / "other" / "b")
    plain.folder.mkdir(parents=True)
    plain.metrics_file.write_text("step,train/loss,val/accuracy\n0,,0.9\n")
    return tmp_path / "runs"
