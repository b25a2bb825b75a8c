"""Parallel text as OPUS, WMT and Moses hand it out: a file for each language, line by line, train.en and train.de."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

LANGUAGE = re.compile(r"[a-z]{2}([_-][A-Za-z]{2,4})?")
"""de, en, zh-CN, pt_BR, zh-Hans; not three letters, which name forms of files as well"""
USUAL = {"valid": "validation", "val": "validation", "dev": "validation", "training": "train"}
Texts = dict[str, dict[str, Path]]
"""Of a split the file of each language."""


def texts_of(folder: Path) -> Texts:
    """What the folder holds of such text; nothing where it holds none, or text of one language only.

    Splits are called as their files, usual other names of train and validation by these; a text that is alone is train.
    Raises ValueError where languages differ between splits.
    """
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        language = file.suffix[1:]
        if file.is_file() and not file.name.startswith(".") and LANGUAGE.fullmatch(language):
            found[USUAL.get(file.stem, file.stem)][language] = file
    texts = {split: files for split, files in found.items() if len(files) > 1}
    if len(texts) == 1:
        texts = {"train": next(iter(texts.values()))}
    if "train" not in texts:
        return {}
    for split, files in texts.items():
        if files.keys() != texts["train"].keys():
            raise ValueError(
                f"{folder} has text of {', '.join(texts['train'])} in train, of {', '.join(files)} in {split}"
            )
    return texts


def read(texts: Texts, **settings: Any) -> dict[str, Dataset] | dict[str, IterableDataset]:
    """A column for each language; settings: of `datasets.load_dataset`, for text.

    Raises ValueError where the files of a split have not as many lines.
    """
    for files in texts.values():
        lines = {file: count_lines(file) for file in files.values()}
        if len(set(lines.values())) > 1:
            counts = ", ".join(f"{file} has {count:,} lines" for file, count in lines.items())
            raise ValueError(f"parallel text needs as many lines in each language: {counts}")
    sides = []
    for language in texts["train"]:
        of_it = {split: str(files[language]) for split, files in texts.items()}
        rows = datasets.load_dataset("text", data_files=of_it, **settings)
        sides.append(rows.rename_column("text", language))
    return {
        split: datasets.concatenate_datasets([side[split] for side in sides], axis=1)
        for split in texts
    }


def count_lines(file: Path) -> int:
    """As `datasets` does: a carriage return alone ends a line too."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        return sum(1 for _ in lines)
