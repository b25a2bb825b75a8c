"""Every experiment that is shipped says what it is, parses, and trains: here on a small set of its kind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pictures

from tfzoo.backbone import TransformerConfig
from tfzoo.cli.main import main

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
BACKBONES = sorted((ROOT / "configs/backbone").glob("*.yaml"))
PIECES = [
    *sorted((ROOT / "configs/trainer").glob("*.yaml")),
    *sorted((ROOT / "configs/logger").glob("*.yaml")),
]
SPLITS = ("train", "validation", "test")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def words(count: int, seed: int) -> list[str]:
    """Words that a tokenizer cannot learn to join."""
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=4)) for _ in range(count)]


def rows_of_text(folder: Path, row: Callable[[int], dict[str, Any]]) -> None:
    for split in SPLITS:
        lines = [json.dumps(row(i)) for i in range(8)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def parallel_text(folder: Path, data: dict[str, Any]) -> None:
    columns = data.get("source") or "source", data.get("target") or "target"
    rows_of_text(folder, lambda i: {side: " ".join(words(5 + i, i)) for side in columns})


def labelled_text(folder: Path, data: dict[str, Any]) -> None:
    text, label = data.get("text") or "text", data.get("label") or "label"
    rows_of_text(folder, lambda i: {text: " ".join(words(5 + i, i)), label: i % 2})


def any_text(folder: Path, data: dict[str, Any]) -> None:
    """Of a new task, which most likely reads text: a number in every other column it may name."""
    text = data.get("text") or "text"
    names = [value for value in data.values() if isinstance(value, str)]
    rows_of_text(folder, lambda i: dict.fromkeys(names, i % 2) | {text: " ".join(words(5 + i, i))})


def images(folder: Path, data: dict[str, Any]) -> None:
    image, label = data.get("image") or "image", data.get("label") or "label"
    size = data.get("size") or 28
    shape = (size, size, 3) if data.get("channels") == 3 else (size, size)
    features = Features({image: Image(), label: ClassLabel(names=["a", "b"])})
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    rows = {image: [Pictures.fromarray(one) for one in pixels], label: [0, 1, 0, 1]}
    for split in SPLITS:
        Dataset.from_dict(rows, features).to_parquet(folder / f"{split}.parquet")


def running_text(folder: Path, data: dict[str, Any]) -> None:
    for seed, split in enumerate(SPLITS):
        text = "ROMEO:\n" + " ".join(words(data.get("context", 256) + 100, seed))
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")


SMALL_SETS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "TranslationData": parallel_text,
    "TextClassificationData": labelled_text,
    "ImageClassificationData": images,
    "GenerationData": running_text,
}
SMALL_BACKBONE = {"dim": 32, "depth": 2, "heads": 2, "kv_heads": None, "hidden": 32}


def small_set(experiment: Path, folder: Path) -> list[str]:
    """Flags that put a small set of the same form, made in `folder`, in the place of an experiment's data."""
    data = read(experiment)["data"]
    settings = data["init_args"]
    folder.mkdir()
    make = SMALL_SETS.get(data["class_path"].rpartition(".")[2], any_text)
    make(folder, settings)
    flags = {"path": folder, "name": "null", "cache_dir": folder.with_name("cache")}
    return [f"--data.{key}={value}" for key, value in flags.items()]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=named)
def test_an_experiment_takes_a_training_and_a_validation_step(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    steps = {
        "accelerator": "cpu",
        "max_steps": 1,
        "limit_train_batches": 1,
        "limit_val_batches": 1,
        "val_check_interval": 1,
        "logger": "false",
        "enable_progress_bar": "false",
    }
    code = main(
        [
            "fit",
            f"-c={experiment}",
            f"--runs={tmp_path / 'runs'}",
            *small_set(experiment, tmp_path / "data"),
            f"--model.backbone={json.dumps(SMALL_BACKBONE)}",
            *[f"--trainer.{key}={value}" for key, value in steps.items()],
        ]
    )
    assert code == 0
    (run,) = (tmp_path / "runs" / experiment.stem).iterdir()
    # The best checkpoint is written once a validation has measured it.
    assert (run / "checkpoints/best.ckpt").is_file()
    assert read(run / "config.yaml")["model"]["init_args"]["backbone"]["dim"] == 32


@pytest.mark.parametrize("piece", PIECES, ids=named)
def test_a_piece_goes_with_an_experiment(piece: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = ROOT / "experiments/translation/multi30k.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["fit", f"-c={experiment}", f"-c={piece}", "--print_config"])
    assert ended.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert holds(config, read(piece))
    assert config["trainer"]["max_steps"] == read(experiment)["trainer"]["max_steps"]
    assert holds(
        config["model"]["init_args"]["backbone"], read(ROOT / "configs/backbone/tiny.yaml")
    )


def holds(whole: Any, part: Any) -> bool:
    """Whether everything that `part` says stands in `whole` too."""
    if isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return whole == part


@pytest.mark.parametrize("backbone", BACKBONES, ids=named)
def test_a_backbone_is_one(backbone: Path) -> None:
    TransformerConfig(**read(backbone))


def test_the_papers_sizes() -> None:
    names = (
        "dim",
        "depth",
        "heads",
        "hidden",
        "dropout",
        "norm_placement",
        "activation",
        "positions",
    )
    base, big = (read(ROOT / f"configs/backbone/{size}.yaml") for size in ("base", "big"))
    common = ("post", "relu", "sinusoidal")
    assert tuple(base[name] for name in names) == (512, 6, 8, 2048, 0.1, *common)
    assert tuple(big[name] for name in names) == (1024, 6, 16, 4096, 0.3, *common)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=named)
def test_an_experiment_says_what_it_is_and_leaves_hardware_alone(experiment: Path) -> None:
    lines = experiment.read_text(encoding="utf-8").splitlines()
    head = "\n".join(takewhile(lambda line: line.startswith("# "), lines))
    assert head
    if experiment.parent.name != "demo":
        assert f"tfzoo fit -c {experiment.relative_to(ROOT)}" in head
    assert not {"accelerator", "devices", "strategy", "precision"} & set(
        read(experiment)["trainer"]
    )


def test_everything_is_where_it_is_looked_for() -> None:
    assert {"tiny", "small", "base", "big"} <= {path.stem for path in BACKBONES}
    assert {"cpu", "gpu", "ddp", "fsdp", "wandb", "offline", "csv"} <= {
        path.stem for path in PIECES
    }
    assert set(SMALL_SETS) <= {read(path)["data"]["class_path"] for path in EXPERIMENTS}
