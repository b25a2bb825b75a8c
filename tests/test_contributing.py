"""What CONTRIBUTING.md says of a new task is true: three files, no edit anywhere else, and it trains."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", re.M | re.S)
BLOCKS = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
DATA, TASK, EXPERIMENT = (
    "tfzoo/data/rating.py",
    "tfzoo/tasks/rating.py",
    "experiments/rating/yelp.yaml",
)
NEEDED = (
    "tfzoo",
    "configs",
    "experiments",
    "tests/experiments",
    "tests/small_sets.py",
    "pyproject.toml",
)
SMALL = {"dim": 32, "depth": 2, "heads": 2, "hidden": 32, "dropout": 0, "max_length": 32}

# One process for all commands: most of their time goes into importing.
TRAIN = """
import sys
from tfzoo.cli import main

code = main(["fit", *sys.argv[1:]])
checkpoint = "runs/yelp/first/checkpoints/best.ckpt"
code = code or main(["test", "--ckpt_path", checkpoint])
code = code or main(["predict", "--ckpt_path", checkpoint])

from tfzoo.tasks.rating import Rating
print(f"mean {Rating.from_checkpoint(checkpoint).facts.mean}")
sys.exit(code)
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the house, and the three files of the new task in it."""
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    for name, code in BLOCKS.items():
        path = tmp_path / name
        assert not path.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding="utf-8")
    return tmp_path


def python(house: Path, *arguments: str) -> str:
    """The output of Python in the copied house."""
    environment = os.environ | {"PYTHONPATH": str(house), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=house,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout[-4000:]
    return found.stdout


def rated(folder: Path) -> float:
    """A small set in which the score counts the good words; returns its variance in the test split."""
    folder.mkdir()
    chance = random.Random(0)
    for split, count in (("train", 200), ("validation", 40), ("test", 40)):
        rows = []
        for _ in range(count):
            words = chance.choices(["good", "bad", "book"], k=8)
            rows.append({"review": " ".join(words), "stars": words.count("good") / 2})
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    stars = [row["stars"] for row in rows]
    mean = sum(stars) / len(stars)
    return sum((s - mean) ** 2 for s in stars) / len(stars)


def test_a_task_is_three_files() -> None:
    assert list(BLOCKS) == [DATA, TASK, EXPERIMENT]


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs the extra dev")
def test_the_code_keeps_the_style(house: Path) -> None:
    python(house, "-m", "ruff", "format", "--check", "--no-cache", DATA, TASK)
    python(house, "-m", "ruff", "check", "--no-cache", DATA, TASK)


@pytest.mark.slow
def test_the_new_task_trains_and_is_measured(house: Path) -> None:
    variance = rated(house / "rated")
    settings = {
        "data": {"path": "rated", "text": "review", "score": "stars", "vocab_size": 300},
        "model": {"backbone": json.dumps(SMALL), "optimizer.lr": 0.005},
        "trainer": {"accelerator": "cpu", "max_steps": 60, "enable_progress_bar": "false"},
    }
    flags = [f"--{a}.{b}={value}" for a, some in settings.items() for b, value in some.items()]
    told = python(
        house,
        "-c",
        TRAIN,
        f"-c={EXPERIMENT}",
        "-c=configs/logger/csv.yaml",
        "--data.cache_dir=cache",
        "--data.batch_tokens=512",
        "--trainer.val_check_interval=10",
        "--run_id=first",
        *flags,
    )
    run = house / "runs/yelp/first"
    measured = json.loads((run / "test.json").read_text())
    # Better than always the mean, whose squared error is the variance.
    assert measured["test/loss"] < 0.8 * variance
    assert measured["test/pearson"] > 0.4
    assert 0 < measured["test/error"] < 1
    samples = sorted((run / "figures").glob("samples-*.md"))
    assert "| text | score | predicted |" in samples[-1].read_text()
    predictions = [json.loads(line) for line in (run / "predictions.jsonl").open()]
    assert len(predictions) == 40
    assert set(predictions[0]) == {"text", "score"}
    assert float(re.search(r"^mean (.*)$", told, re.M)[1]) == pytest.approx(4 / 3, abs=0.2)


# A missing score is null in JSON lines and NaN in a table of numbers.
BROKEN = """
import csv
from tfzoo.data.rating import RatingData

with open("broken.csv", "w", newline="") as file:
    rows = [["review", "stars"], *([f"good book {i}", i % 3] for i in range(20)), ["bad", "NaN"], ["", 1]]
    csv.writer(file).writerows(rows)
common = {"text": "review", "score": "stars", "vocab_size": 300, "cache_dir": "cache"}
try:
    print(RatingData("broken.csv", **common).facts)
except ValueError as error:
    print(error)
data = RatingData("broken.csv", skip_broken=True, **common)
batches = [*data.train_dataloader(), *data.val_dataloader()]
print("rows", sum(len(batch.scores) for batch in batches), "mean", data.facts.mean)
"""


@pytest.mark.slow
def test_the_new_task_refuses_scores_that_are_none_or_leaves_them_out(house: Path) -> None:
    told = python(house, "-c", BROKEN)
    assert re.search(r"row \d+ \(from 0\) of the \w+ split has no (number in column 'stars'|text in column 'review')", told)  # fmt: skip
    assert "rows 20 mean " in told
    assert "mean nan" not in told


@pytest.mark.slow
def test_the_new_experiment_is_tested_with_the_others(house: Path) -> None:
    told = python(
        house, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/experiments", "-k", "yelp"
    )
    assert "2 passed" in told
