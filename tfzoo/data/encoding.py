"""Tokenizers trained and sets tokenized once, cached on disk by all that they depend on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import IO, Any

import datasets
import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher

from tfzoo.data.bars import bar
from tfzoo.data.mistakes import unwritable
from tfzoo.data.tokenizer import Tokenizer

VERSION = 1  # of what is cached: raise it when this file or the training of tokenizers changes


def cache_folder(cache_dir: str | None) -> Path:
    """Where tokenizers and ids are cached: in `cache_dir`, or beside what `datasets` caches."""
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE).expanduser() / "tfzoo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if told := unwritable(folder, error):
            raise told from error
        raise
    return folder


@contextmanager
def written_whole(file: Path) -> Iterator[IO[bytes]]:
    """Written aside and renamed: another process never sees half a file."""
    aside = file.with_suffix(f".{os.getpid()}")
    try:
        with aside.open("wb") as opened:
            yield opened
        aside.replace(file)
    except OSError as error:
        full = os.statvfs(file.parent).f_bavail == 0  # of which numpy only says what is missing
        cause = OSError(ENOSPC, "") if full else error
        raise unwritable(file.parent, cause) or error from error.__cause__
    finally:
        aside.unlink(missing_ok=True)


def ids(column: str) -> str:
    """The column that holds the token ids of a column of text."""
    return f"{column}_ids"


def trained(
    kind: str, rows: Dataset, columns: list[str], vocab_size: int, cache: Path | None
) -> Tokenizer:
    """The tokenizer of a kind, trained on the columns given; cache: None to train it anew."""
    if kind.endswith(".json"):
        return Tokenizer.load(kind)
    if cache is None:
        return Tokenizer.train(kind, _texts(rows, columns), vocab_size)
    key = Hasher.hash([VERSION, kind, rows._fingerprint, columns, vocab_size])
    file = cache / f"tokenizer-{key}.json"
    if not file.exists():
        tokenizer = Tokenizer.train(kind, _texts(rows, columns), vocab_size)
        with written_whole(file) as aside:
            aside.write(tokenizer.to_json().encode())
    return Tokenizer.from_json(file.read_text(encoding="utf-8"))


def _texts(rows: Dataset, columns: list[str]) -> Iterator[str]:
    batches = rows.select_columns(columns).iter(1000)
    for batch in bar(batches, "Reading for the tokenizer", -(-len(rows) // 1000)):
        for column in columns:
            yield from (text for text in batch[column] if text)


def tokenized(
    rows: Dataset, tokenizers: dict[str, Tokenizer], split: str, cache: Path | None
) -> Dataset:
    """The rows with a column `ids(column)` more for each column of text: its token ids.

    cache: None to keep the result in memory. Raises ValueError naming the split and column where a
        text is missing.
    """
    jsons = {column: tokenizer.to_json() for column, tokenizer in tokenizers.items()}
    if cache is None:
        for column, encoded in _encode(rows[:], jsons, split).items():
            rows = rows.add_column(
                column, encoded, new_fingerprint="pool", feature=List(Value("int32"))
            )
        return rows
    key = Hasher.hash([VERSION, rows._fingerprint, jsons])
    features = Features(rows.features | {ids(column): List(Value("int32")) for column in jsons})
    return rows.map(
        _encode,
        batched=True,
        batch_size=256,
        fn_kwargs={"jsons": jsons, "split": split},
        features=features,
        new_fingerprint=key,
        cache_file_name=str(cache / f"{key}.arrow"),
        desc=f"Tokenizing {split}",
    )


def _encode(batch: dict[str, list[Any]], jsons: dict[str, str], split: str) -> dict[str, list[Any]]:
    encoded = {}
    for column, json in jsons.items():
        if any(text is None for text in batch[column]):
            raise ValueError(f"a row of the {split} split has no text in column {column!r}")
        tokenizer = Tokenizer.from_json(json)
        long = any(len(text) > 100_000 for text in batch[column])
        encode = tokenizer.encode_array if long else None
        texts = batch[column]
        encoded[ids(column)] = (
            [encode(t) for t in texts] if encode else tokenizer.encode_batch(texts)
        )
    return encoded


def lengths(rows: Dataset, column: str) -> np.ndarray:
    """(N,) the number of token ids of each row of a tokenized column of text."""
    return pc.list_value_length(_arrow(rows, column)).to_numpy().astype(np.int64)


def flat(rows: Dataset, column: str) -> np.ndarray:
    """All token ids of a tokenized column of text, one row after the other, (N,) int32."""
    return pc.list_flatten(_arrow(rows, column)).to_numpy()


def _arrow(rows: Dataset, column: str) -> Any:
    return (
        rows.with_format("arrow").flatten_indices()[:][ids(column)]
        if rows._indices
        else rows.data.column(ids(column))
    )
