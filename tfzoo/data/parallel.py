"""Parallel text as OPUS, WMT and Moses hand it out: a file for each language, line by line, train.en and train.de."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from tfzoo.data.mistakes import no_utf8

_CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et
eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk
kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny
oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk
tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
ISO_639_1 = frozenset(_CODES.split())
REGION = re.compile("([_-][A-Za-z]{2,4})?")
"""Of zh-CN, pt_BR, zh-Hans."""
VALIDATION = ("valid", "val", "dev")
"""What a validation split is also called."""
ASIDE = ("readme", "license", "licence", "copying", "notice")
Texts = dict[str, dict[str, Path]]
"""Of a split, called as its files, the file of each language."""


def texts_of(folder: Path) -> Texts:
    """What the folder holds of such text: train.XX and train.YY, or two files of one name and no others; or nothing.

    Raises ValueError where a train.XX is alone, and there are no files of other kinds.
    """
    found: Texts = defaultdict(dict)
    others = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        language = file.suffix[1:]
        if file.name.startswith(".") or file.stem.lower() in ASIDE:
            continue
        if language[:2] in ISO_639_1 and REGION.fullmatch(language[2:]) and file.is_file():
            found[file.stem][language] = file
        else:
            others.append(file)
    texts = {split: files for split, files in found.items() if len(files) > 1}
    if "train" in texts:
        return texts
    if "train" in found and not others:
        (file,) = found["train"].values()
        raise ValueError(
            f"{file} is alone: parallel text needs a file of another language beside it, line by line"
        )
    alone = len(texts) == len(found) == 1 and not others
    return {"train": next(iter(texts.values()))} if alone else {}


def read(
    texts: Texts, asked: Collection[str], replace: bool = False, **settings: Any
) -> dict[str, Dataset] | dict[str, IterableDataset]:
    """A column for each language of the splits asked for; settings: of `datasets.load_dataset`.

    replace: bytes that are no UTF-8 become U+FFFD.
    Raises ValueError where it is not clear which files are meant, or they have not as many lines, or are no UTF-8.
    """
    splits = {split: files for split, files in texts.items() if split in asked}
    if "validation" in asked and "validation" not in texts:
        usual = [name for name in VALIDATION if name in texts]
        if len(usual) > 1:
            raise ValueError(
                f"{' and '.join(usual)} may both be for validation: name one, as in "
                f'--data.splits "[train, {usual[0]}, test]"'
            )
        if usual:
            splits["validation"] = texts[usual[0]]
    rows: dict[str, Any] = dict.fromkeys(texts)  # those not asked for are named only
    for split, files in splits.items():
        check_lines(files, replace)
        if replace:
            settings |= {"encoding": "utf-8", "encoding_errors": "replace"}
        sides = [
            datasets.load_dataset(
                "text", data_files=str(file), split="train", **settings
            ).rename_column("text", language)
            for language, file in files.items()
        ]
        rows[split] = datasets.concatenate_datasets(sides, axis=1)
    return rows


def check_lines(files: dict[str, Path], replace: bool) -> None:
    """Raises ValueError where files that go together line by line do not, or are no UTF-8."""
    counts = {}
    for file in files.values():
        if not replace and (wrong := no_utf8(file)):
            raise ValueError(wrong)
        # As `datasets` does: a carriage return alone ends a line too.
        with file.open(encoding="utf-8", errors="replace") as lines:
            counts[file] = sum(1 for _ in lines)
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{file} has {count:,} lines" for file, count in counts.items())
        raise ValueError(f"parallel text needs as many lines in each language: {each}")
    if not any(counts.values()):
        raise ValueError(f"there is no line in {' and '.join(map(str, counts))}")
