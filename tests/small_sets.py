"""Small sets of every task's kind, in files, for tests that train: eight samples a split."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pictures

SPLITS = ("train", "validation", "test")
NO_PICTURES = {"class_path": "Show", "init_args": {"share": 0.0}}
"""Drawing takes more time than a training on them."""


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
