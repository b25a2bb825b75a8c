"""The benchmark measures, on tiny shapes, all that it promises, and its page says who was how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "experiments/speed/bench.py"


def test_ratios_are_those_of_the_rounds(monkeypatch):
    monkeypatch.syspath_prepend(BENCH.parent)
    report = import_module("report")

    def row(name: str, work: float, rounds: list[float], peak: int) -> dict:
        median = sorted(rounds)[1]
        return {
            "name": name,
            "rate": work / median,
            "seconds": median,
            "rounds": rounds,
            "peak": peak,
        }

    ours = row("tfzoo", 60, [2.0, 1.0, 9.0], 30)
    blocks = row("tfzoo, blocks", 60, [0.1, 0.1, 0.1], 1)  # ours too, and no one to compare with
    best, other = row("best", 90, [4.0, 5.0, 6.0], 40), row("other", 60, [9.0, 9.0, 9.0], 20)
    ratio, memory = report.ratios([ours, blocks, best, other])
    assert ratio == pytest.approx(60 / 90 * 2.0)
    assert memory == 30 / 20


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra bench")
@pytest.mark.slow
@pytest.mark.data
def test_every_part_on_tiny_shapes(tmp_path):
    flags = ["--small", "--rounds=1", "--steps=4", "--precision=32", f"--out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, BENCH, *flags],
        cwd=tmp_path,
        env=os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/bench.json").read_text())
    works = {(row["work"], row["name"]) for row in found["rows"]}
    for work, others in {
        "gpt": ["transformers GPT-2", "x-transformers", "torch.nn"],
        "classifier": ["transformers BERT", "torch.nn"],
        "vit": ["transformers ViT", "timm"],
        "translator": ["transformers Marian", "torch.nn"],
        "generation, batch 1": ["transformers GPT-2"],
        "generation, batch 16": ["transformers GPT-2"],
        "translation, beam of 5, batch 32": ["transformers Marian"],
        "real sentences": ["transformers Marian", "Marian, by length"],
    }.items():
        assert {(work, name) for name in ["tfzoo", *others]} <= works
    assert all(row["rate"] > 0 for row in found["rows"])
    # Networks of one shape keep about as much: that is what makes them comparable.
    for work in ("gpt", "classifier", "vit", "translator"):
        peaks = [row["peak"] for row in found["rows"] if row["work"] == work]
        assert max(peaks) < 2 * min(peaks)
    assert found["padding_in_language_modelling"] == 0
    assert 0 < found["padding"]["tfzoo"] < found["padding"]["transformers Marian"]
    assert {one["steps"] for one in found["framework"].values()} == {2, 4}
    assert all(start["processor"] > 0 for start in found["starting"])
    page = (tmp_path / "out/bench.md").read_text()
    assert page in done.stdout
    assert page.count("**") == 2 * 9  # a ratio for each work


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra bench")
@pytest.mark.slow
def test_compiled_ours_is_measured_both_ways(tmp_path):
    flags = ["--small", "--rounds=1", "--only=training", "--works=gpt", "--compiled=yes"]
    done = subprocess.run(
        [sys.executable, BENCH, *flags, "--precision=32", f"--out={tmp_path / 'out'}"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out/bench.json").read_text())["rows"]
    rates = {row["name"]: row["rate"] for row in rows}
    assert {"tfzoo", "tfzoo, blocks"} < set(rates)
    best = max(rate for name, rate in rates.items() if not name.startswith("tfzoo"))
    assert f"**{rates['tfzoo'] / best:.2f}**" in (tmp_path / "out/bench.md").read_text()
