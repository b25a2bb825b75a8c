"""Everything that decides a result is in the run's folder, and a run that goes on under other circumstances says so."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import tfzoo
from tfzoo.cli import main


def entries(run: Path) -> list[dict]:
    return json.loads((run / "provenance.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["Translation", "TextClassification", "ImageClassification", "Generation"]
)
def test_a_run_says_what_decided_it(task, trained):
    (entry,) = entries(trained(task))
    assert entry["versions"]["torch"] == torch.__version__
    assert entry["versions"]["tfzoo"] == tfzoo.__version__
    assert entry["command"][:2] == ["tfzoo", "fit"]
    assert (entry["seed"], entry["precision"], entry["deterministic"]) == (1, "32-true", False)
    assert entry["devices"]["world_size"] == entry["devices"]["on_each_node"] == 1
    assert entry["threads"] == torch.get_num_threads()
    assert list(entry["data"]) == ["train", "validation", "test"]
    assert all(len(split["hash"]) == 32 and split["rows"] for split in entry["data"].values())
    assert entry["resumed"] is None


@pytest.mark.slow
def test_a_resumed_run_tells_of_other_data_and_versions(
    experiment, trained, tmp_path, capsys, monkeypatch
):
    run = Path(shutil.copytree(trained("TextClassification"), tmp_path / "runs/x/1"))
    assert main(["resume", str(run), "--trainer.max_steps=3"]) == 0
    assert "warning" not in capsys.readouterr().err
    data = tmp_path / "data"
    shutil.copytree(experiment("TextClassification").parent / "data", data)
    more = ["--trainer.max_steps=4", f"--data.path={data}"]
    assert main(["resume", str(run), *more]) == 0  # the same rows elsewhere
    assert "warning" not in capsys.readouterr().err
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join([*lines, lines[0]]))
    monkeypatch.setattr(tfzoo, "__version__", "99.0")
    assert main(["resume", str(run), "--trainer.max_steps=5", more[1]]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert told == [
        "tfzoo: warning: not as it was when this run began: the train split (8 rows, now 9), "
        f"tfzoo ({entries(run)[0]['versions']['tfzoo']}, now 99.0)"
    ]
    found = entries(run)
    assert [entry["resumed"] and entry["resumed"]["step"] for entry in found] == [None, 2, 3, 4]
    assert found[0]["data"] == found[2]["data"] != found[3]["data"]


def test_a_stream_is_described_too(experiment, tmp_path):
    flags = ["--data.streaming=true", "--data.max_length=64", "--trainer.max_steps=1"]
    arguments = ["fit", "-c", str(experiment("TextClassification")), f"--runs={tmp_path}"]
    assert main([*arguments, *flags]) == 0
    (run,) = tmp_path.glob("*/*")
    assert entries(run)[0]["data"]["train"]["streamed"] is True
