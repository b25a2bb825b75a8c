"""What the rows say decides the fingerprint, and nothing else does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, Value, concatenate_datasets

from tfzoo.data import fingerprint as module
from tfzoo.data.fingerprint import fingerprint
from tfzoo.data.generation import GenerationData
from tfzoo.data.image_classification import ImageClassificationData
from tfzoo.data.text_classification import TextClassificationData

ROWS = [{"text": f"text {i} " * (i % 5 + 1), "label": "ab"[i % 2]} for i in range(2500)]
VALUES = {
    "text": ["a", None, "", "书"],
    "number": [1, 2, None, 4],
    "share": [0.5, None, float("nan"), -0.0],
    "truth": [True, False, None, True],
    "many": [[1, 2], [], None, [3]],
    "pair": [{"de": "a", "en": "b"}, None, {"de": None, "en": "c"}, {"de": "", "en": ""}],
    "parts": [["x", "yz"], [], None, ["", None]],
}


def test_neither_files_nor_chunks_nor_indices_count():
    rows = Dataset.from_list(ROWS)
    wanted = fingerprint(rows)
    assert wanted["rows"] == 2500
    parts = concatenate_datasets([Dataset.from_list(ROWS[:7]), Dataset.from_list(ROWS[7:])])
    backwards = rows.select(range(2499, -1, -1))
    for same in (
        parts,
        backwards.select(range(2499, -1, -1)),
        rows.cast_column("text", Value("large_string")),
        concatenate_datasets([rows, rows]).select(range(2500)),
    ):
        assert fingerprint(same) == wanted
    assert fingerprint(backwards) != wanted


@pytest.mark.parametrize("column", VALUES)
def test_every_value_counts(column):
    values = VALUES[column]
    rows = Dataset.from_dict({column: values})
    same = Dataset.from_dict({column: values[:2] + values}).select(range(2, 6))
    assert fingerprint(same) == fingerprint(rows)
    seen = {fingerprint(rows)["hash"]}
    for place, value in enumerate(values):
        other = next(v for v in reversed(values) if v is not None and repr(v) != repr(value))
        changed = [*values[:place], other, *values[place + 1 :]]
        seen.add(fingerprint(Dataset.from_dict({column: changed}, features=rows.features))["hash"])
    seen.add(fingerprint(rows.rename_column(column, "other"))["hash"])
    assert len(seen) == 6


def test_texts_are_not_run_together():
    assert fingerprint(Dataset.from_dict({"a": ["xy", "z"]})) != fingerprint(
        Dataset.from_dict({"a": ["x", "yz"]})
    )


def test_a_large_split_is_sampled_evenly(monkeypatch):
    rows = Dataset.from_dict({"text": [f"row {i:05d}" for i in range(5000)]})
    monkeypatch.setattr(module, "WHOLE", 10_000)
    monkeypatch.setattr(module, "SAMPLE", 2000)
    found = fingerprint(rows)
    assert found["rows"] == 5000
    assert 50 < found["sampled"] < 250
    assert fingerprint(rows.select(range(5000))) == found
    one = rows.select(range(4999))
    assert fingerprint(one) != found


def test_images_count_by_their_bytes_and_names_not_by_their_folder(pictures, tmp_path_factory):
    folder = Path(pictures())
    home = tmp_path_factory.mktemp("moved")
    moved = Path(shutil.copytree(folder, home / "moved"))

    def of(path: Path) -> dict:
        return ImageClassificationData(
            str(path), cache_dir=str(home / "cache" / path.name)
        ).fingerprint()

    wanted = of(folder)
    assert wanted["train"]["rows"] + wanted["validation"]["rows"] == 30
    assert of(moved) == wanted
    (one,) = moved.glob("train/cat/0.png")
    one.write_bytes(next(moved.glob("train/dog/*.png")).read_bytes())
    changed = Path(shutil.copytree(moved, home / "changed"))
    assert of(changed) != wanted
    embedded = Dataset.from_dict({"image": [{"bytes": b"abc", "path": None}]})
    elsewhere = Dataset.from_dict({"image": [{"bytes": b"abc", "path": "/some/where.png"}]})
    as_images = [rows.cast_column("image", Image(decode=False)) for rows in (embedded, elsewhere)]
    assert fingerprint(as_images[0]) == fingerprint(as_images[1])


def test_the_same_rows_of_any_file(tmp_path):
    """Of the columns that are used alone, and whatever the cache."""
    found = []
    for kind in ("json", "parquet"):
        folder = tmp_path / kind
        folder.mkdir()
        for split, rows in (("train", ROWS), ("validation", ROWS[:10])):
            more = [row | {"unused": kind} for row in rows]
            if kind == "json":
                lines = "\n".join(map(json.dumps, more))
                (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
            else:
                pq.write_table(
                    pa.Table.from_pylist(more), folder / f"{split}.parquet", row_group_size=100
                )
        data = TextClassificationData(
            str(folder), tokenizer="bytes", cache_dir=str(tmp_path / kind)
        )
        found.append(data.fingerprint())
    assert found[0] == found[1]
    assert list(found[0]) == ["train", "validation", "test"]
    assert found[0]["test"] == found[0]["validation"]


def test_a_stream_is_known_by_its_first_rows(write, cache):
    rows = ROWS[:100]
    options = {
        "tokenizer": "bytes",
        "streaming": True,
        "shuffle_buffer": 50,
        "max_length": 99,
        "cache_dir": cache,
    }
    folder = write(train=rows, validation=rows[:5])
    whole = TextClassificationData(folder, **options).fingerprint()
    assert whole["train"] == fingerprint(
        Dataset.from_list(rows[:50]).select_columns(["text", "label"])
    ) | {"streamed": True}
    write(train=rows[:50] + [{"text": "b", "label": "b"}] * 50)
    assert TextClassificationData(folder, **options).fingerprint() == whole
    write(train=[{"text": "b", "label": "b"}, *rows[1:]])
    assert TextClassificationData(folder, **options).fingerprint() != whole


def test_running_text(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("to be or not to be " * 50)
    data = GenerationData(str(tmp_path), context=16, cache_dir=str(tmp_path / "cache"))
    assert data.fingerprint()["train"]["rows"] == 1


def test_it_is_what_it_was():
    """A hash that changed with a version would tell of other data where there are none."""
    rows = Dataset.from_dict(VALUES)
    assert fingerprint(rows) == {"rows": 4, "hash": "4f6a3dba343c055154ab550cef1c873b"}


def test_a_gibibyte_takes_seconds():
    """Blake2 reads about a gigabyte a second: 40 MB must not take longer than reading them with Python would."""
    import time

    text = np.random.default_rng(0).integers(97, 122, 40_000_000, np.uint8).tobytes().decode()
    rows = Dataset.from_dict({"text": [text[i : i + 400] for i in range(0, len(text), 400)]})
    start = time.perf_counter()
    fingerprint(rows)
    assert time.perf_counter() - start < 2
