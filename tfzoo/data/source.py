"""Where rows come from: an embedded set, a local file or folder, or a set on the hub."""

from __future__ import annotations

import hashlib
import socket
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import huggingface_hub
import numpy as np
from datasets import Dataset, DatasetDict, Image, IterableDataset

from tfzoo.data import corpora, parallel
from tfzoo.data.bars import bar
from tfzoo.data.mistakes import TEXTUAL, explained, files

Rows: TypeAlias = Dataset | IterableDataset
SPLITS = ("train", "validation", "test")
READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".txt": ("text", {}),
}


class Splits(dict[str, Rows]):
    """Rows by split.

    parts: of a split that is a part of another, the other's name and the numbers of its rows there.
    """

    def __init__(self, rows: Mapping[str, Rows]) -> None:
        super().__init__(rows)
        self.parts: dict[str, tuple[str, np.ndarray]] = {}


def load(
    path: str,
    name: str | None = None,
    splits: tuple[str, str, str] = SPLITS,
    validation_fraction: float = 0.1,
    streaming: bool = False,
    cache_dir: str | None = None,
    whole_files: bool = False,
    replace: bool = False,
) -> Splits:
    """The rows of the splits train, validation and test.

    path: an embedded set (interface, reviews, digits, shakespeare), a local file or folder, or a
        name on the hub, looked for in this order; name: a hub set's configuration.
    splits: what the set calls its three splits. Without a validation split one is held out from
        train by the hash of what its rows say, equal rows together; without a test split,
        validation serves.
    whole_files: a text file is one row rather than one row a line.
    replace: bytes of text files that are no UTF-8 become U+FFFD, instead of being refused.
    Raises FileNotFoundError, OSError or ValueError in one sentence where the set or a split cannot
    be had.
    """
    with explained(path):
        found = _found(path, name, splits, streaming, cache_dir, whole_files, replace)
        return _chosen(path, found, splits, validation_fraction, streaming)


def at_hand(path: str) -> bool:
    """Whether a set can be read without a network: an embedded one, or one that lies here."""
    if path in corpora.CORPORA:
        return all(find_spec(module) for module, _ in corpora.CORPORA[path].files)
    return Path(path).expanduser().exists()


def is_local(path: str) -> bool:
    """Whether a path can only mean a file or folder, be it there or not."""
    local = path.startswith((".", "/", "~")) or path.count("/") > 1
    return local or Path(path).suffix in READERS


def _chosen(
    path: str,
    found: dict[str, Rows],
    splits: tuple[str, str, str],
    validation_fraction: float,
    streaming: bool,
) -> Splits:
    """The three splits among those found, what is missing made up for."""
    train, validation, test = splits
    for asked, usual in zip(splits, SPLITS, strict=True):
        if asked not in found and (asked != usual or usual == "train"):
            raise ValueError(f"{path} has no split {asked!r}, only {', '.join(found)}")
    chosen = Splits({"train": found[train]})
    if validation in found:
        chosen["validation"] = found[validation]
    elif streaming:
        chosen |= _stream_out(found[train], validation_fraction)
    else:
        parts = _hold_out(found[train], validation_fraction)
        chosen |= {split: rows for split, (rows, _) in parts.items()}
        chosen.parts |= {split: (train, numbers) for split, (_, numbers) in parts.items()}
    chosen["test"] = found[test] if test in found else chosen["validation"]
    if test not in found and "validation" in chosen.parts:
        chosen.parts["test"] = chosen.parts["validation"]
    for split, rows in chosen.items():
        if not (len(rows) if isinstance(rows, Dataset) else first(_undecoded(rows), 1)):
            raise ValueError(f"the {split} split of {path} is empty")
        if isinstance(rows, IterableDataset) and rows.features is None:
            # Files of text or json declare none: the first rows show them.
            chosen[split] = rows._resolve_features()
    return chosen


def _found(
    path: str,
    name: str | None,
    splits: tuple[str, str, str],
    streaming: bool,
    cache_dir: str | None,
    whole_files: bool,
    replace: bool,
) -> dict[str, Rows]:
    """All splits of the set under their own names."""
    if path in corpora.CORPORA:
        embedded = corpora.read(path, cache_dir)
        return {k: v.to_iterable_dataset() if streaming else v for k, v in embedded.items()}
    local = Path(path).expanduser()
    if local.exists():
        if texts := _parallel(local):
            common = {"streaming": streaming, "cache_dir": cache_dir}
            return dict(parallel.read(texts, splits, replace, **common))
        return dict(_local(local, name, streaming, cache_dir, whole_files, replace))
    if is_local(path):
        raise FileNotFoundError(f"there is no file or folder {path}")
    return dict(_hub(path, name, streaming=streaming, cache_dir=cache_dir))


def _parallel(folder: Path) -> parallel.Texts:
    """The files of parallel text in a folder, unless a table there is for training."""
    texts = parallel.texts_of(folder)
    named = (file for file in files(folder) if file.stem.startswith("train"))
    return {} if texts and any(file.suffix.lower() in READERS for file in named) else texts


def _hub(path: str, name: str | None, **common: Any) -> Any:
    """A set on the hub; one that is a program is never run, but read from the tables the hub has made of it."""
    if not _hub_has_an_address():
        # What the cache holds is found all the same, and what it does not is missed at once.
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        # No trust_remote_code: `datasets` runs no code of a set, and nothing here may ask it to.
        return datasets.load_dataset(path, name, **common)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        return datasets.load_dataset(path, data_dir=name, revision="refs/convert/parquet", **common)


def _hub_has_an_address() -> bool:
    """False where no name can be looked up: its client would try again for minutes. A proxy looks up names itself."""
    if urllib.request.getproxies():
        return True
    host = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT).hostname
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _local(
    path: Path,
    name: str | None,
    streaming: bool,
    cache_dir: str | None,
    whole_files: bool,
    replace: bool,
) -> dict[str, Rows]:
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        saved = datasets.load_from_disk(str(path))
        sets = saved if isinstance(saved, DatasetDict) else {"train": saved}
        return {k: v.to_iterable_dataset() if streaming else v for k, v in sets.items()}
    common: dict[str, Any] = {"streaming": streaming, "cache_dir": cache_dir}
    suffixes = Counter(file.suffix.lower() for file in files(path))
    if (
        whole_files
        and not streaming
        and suffixes[".txt"]
        and not set(suffixes) - {".txt", ".md", ""}
    ):
        common["sample_by"] = "document"
    if replace and suffixes and not set(suffixes) - {*TEXTUAL, ".md", ""}:
        common |= {
            "encoding": "utf_8",
            "encoding_errors": "replace",
        }  # by json only heeded so spelt
    if path.is_dir():
        return datasets.load_dataset(str(path), name, **common)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} is none of the files that can be read: {', '.join(READERS)}")
    builder, options = READERS[path.suffix.lower()]
    return datasets.load_dataset(builder, data_files={"train": str(path)}, **options, **common)


def _hold_out(rows: Dataset, fraction: float) -> dict[str, tuple[Dataset, np.ndarray]]:
    """Divide rows by the hash of their text (without any, of their place), equal ones together.

    Returns of both splits the rows and which of all they are.
    """
    features = rows.features
    columns = [name for name in features if is_text(features[name])]
    if len(rows) == 1 and len(columns) == 1:
        return _divide(rows, columns[0], fraction)
    if any(isinstance(feature, Image) for feature in features.values()):
        columns = []  # text beside images is their labels
    texts = zip(*(rows[column] for column in columns), strict=True) if columns else range(len(rows))
    watched = bar(texts, "Holding out for validation", len(rows))
    hashes = np.array([_hash(text) for text in watched], np.uint64)
    held = hashes <= np.sort(hashes)[max(1, round(fraction * len(hashes))) - 1]
    parts = {"train": np.flatnonzero(~held), "validation": np.flatnonzero(held)}
    return {split: (rows.select(numbers), numbers) for split, numbers in parts.items()}


def _divide(rows: Dataset, column: str, fraction: float) -> dict[str, tuple[Dataset, np.ndarray]]:
    """Divide the one text there is by position, its end held out, between two lines where it has several."""
    text = rows[0][column]
    place = round(len(text) * (1 - fraction))
    place = text.rfind("\n", 0, place) + 1 or place
    parts = {"train": text[:place], "validation": text[place:]}
    return {
        split: (rows.map(lambda row, part=part: {column: part}), np.zeros(1, int))
        for split, part in parts.items()
    }


def _stream_out(rows: IterableDataset, fraction: float) -> dict[str, IterableDataset]:
    """Divide a stream by place: the same hash, of the number of the row."""

    def held(_: Any, place: int) -> bool:
        return _hash(place) < fraction * 2**64

    def kept(_: Any, place: int) -> bool:
        return not held(_, place)

    rows = _undecoded(rows)
    return {
        "train": rows.filter(kept, with_indices=True),
        "validation": rows.filter(held, with_indices=True),
    }


def is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _hash(content: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(content).encode()).digest()[:8])


def _undecoded(rows: IterableDataset) -> IterableDataset:
    """Images as they are stored: a broken one is for those to name who know its split."""
    return rows.decode(False) if rows.features else rows


def first(rows: Rows, count: int) -> list[dict[str, Any]]:
    """The first `count` rows."""
    return list(bar(islice(iter(rows), count), "Reading the first rows", count))
