"""Every experiment that is shipped says what it is, parses, and trains: here on a small set of its kind."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_sets import NO_PICTURES, SMALL_SETS, any_text

from tfzoo.backbone import TransformerConfig
from tfzoo.cli.main import main

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
BACKBONES = sorted((ROOT / "configs/backbone").glob("*.yaml"))
PIECES = [
    *sorted((ROOT / "configs/trainer").glob("*.yaml")),
    *sorted((ROOT / "configs/logger").glob("*.yaml")),
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


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


@pytest.mark.slow
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
            f"--trainer.callbacks+={json.dumps(NO_PICTURES)}",
        ]
    )
    assert code == 0
    name = read(experiment).get("experiment", experiment.stem)
    (run,) = (tmp_path / "runs" / name).iterdir()
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
