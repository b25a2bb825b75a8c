"""A set loads alike from whatever form it has on disk, and what is wrong with one is said in a sentence."""

import json
import socket
import urllib.request
from pathlib import Path

import datasets
import pytest
from PIL import Image

from tfzoo.data import source
from tfzoo.data.generation import GenerationData

ROWS = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]


def load(path, cache, **options) -> dict:
    return source.load(str(path), cache_dir=cache, **options)


def written(folder: Path, form: str) -> Path:
    rows = datasets.Dataset.from_list(ROWS)
    if form == "jsonl folder":
        rows.to_json(folder / "train.jsonl")
    elif form == "json list":
        (folder / "rows.json").write_text(json.dumps(ROWS))
        return folder / "rows.json"
    elif form == "csv":
        rows.to_csv(folder / "rows.csv", index=False)
        return folder / "rows.csv"
    elif form == "tsv":
        rows.to_csv(folder / "rows.tsv", index=False, sep="\t")
        return folder / "rows.tsv"
    elif form == "parquet shards":
        (folder / "README.md").write_text("# A set\n")
        for k in range(2):
            rows.shard(2, k).to_parquet(folder / f"train-0000{k}-of-00002.parquet")
    elif form == "saved to disk":
        datasets.DatasetDict({"train": rows}).save_to_disk(folder / "saved")
        return folder / "saved"
    elif form == "one split saved":
        rows.save_to_disk(folder / "saved")
        return folder / "saved"
    return folder


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        "jsonl folder",
        "json list",
        "csv",
        "tsv",
        "parquet shards",
        "saved to disk",
        "one split saved",
    ],
)
def test_every_form_gives_the_same_rows(form, streaming, tmp_path, cache):
    found = load(written(tmp_path, form), cache, streaming=streaming)
    assert set(found) == {"train", "validation", "test"}
    rows = [*found["train"], *found["validation"]]
    assert sorted(rows, key=lambda row: row["text"]) == sorted(ROWS, key=lambda row: row["text"])


def test_validation_is_held_out_once_and_for_all(write, cache):
    doubled = write(train=ROWS + ROWS)
    first, second = load(doubled, cache), load(doubled, cache)
    held = {row["text"] for row in first["validation"]}
    assert 4 <= len(held) <= 6
    assert held == {row["text"] for row in second["validation"]}
    assert not held & {row["text"] for row in first["train"]}, "equal rows stay together"
    assert list(first["test"]) == list(first["validation"])


def test_splits_there_are_stay_as_they_are(write, cache):
    found = load(write(train=ROWS, dev=ROWS[:3], test=ROWS[3:5]), cache)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [40, 3, 2]


def test_splits_may_have_other_names(tmp_path, cache):
    rows = datasets.Dataset.from_list(ROWS)
    sets = {"learn": rows, "check": rows.select(range(3)), "exam": rows.select(range(2))}
    datasets.DatasetDict(sets).save_to_disk(tmp_path)
    found = load(tmp_path, cache, splits=("learn", "check", "exam"))
    assert [len(found[split]) for split in ("train", "validation", "test")] == [40, 3, 2]
    with pytest.raises(ValueError, match="no split 'quiz', only learn, check, exam"):
        load(tmp_path, cache, splits=("learn", "quiz", "exam"))


def test_a_folder_of_images(tmp_path, cache):
    for split, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                Image.new("L", (8, 8), 10 * k).save(folder / f"{k}.png")
    found = load(tmp_path, cache)
    assert found["train"].features["label"].names == ["cat", "dog"]
    assert len(found["test"]) == 4


def test_a_text_file_is_lines_or_one_row_and_keeps_empty_lines(tmp_path, cache):
    file = tmp_path / "play.txt"
    file.write_text("A:\nYes.\n\nB:\nNo.\n" * 3, encoding="utf-8")
    (tmp_path / "validation.txt").write_text("A:\n\nPerhaps.\n", encoding="utf-8")
    file.rename(tmp_path / "train.txt")
    lines = load(tmp_path, cache)["validation"]["text"]
    assert list(lines) == ["A:", "", "Perhaps."]
    whole = load(tmp_path, cache, whole_files=True)
    assert list(whole["train"]["text"]) == ["A:\nYes.\n\nB:\nNo.\n" * 3]


def test_a_changed_file_is_read_anew(write, cache):
    assert len(load(write(train=ROWS, test=ROWS[:1]), cache)["test"]) == 1
    assert len(load(write(train=ROWS, test=ROWS[:2]), cache)["test"]) == 2


@pytest.mark.parametrize("form", ["train.txt", "train.jsonl", "train.csv"])
def test_text_that_is_not_utf8_is_named(form, tmp_path, cache):
    start = "text\n" if form == "train.csv" else ""
    line = '{"text": "na\xefve"}\n' if form == "train.jsonl" else "na\xefve\n"
    (tmp_path / form).write_bytes((start + line * 9).encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{form} is not UTF-8"):
        _ = GenerationData(str(tmp_path), context=4, cache_dir=cache).facts


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("./missing", FileNotFoundError, "no file or folder ./missing"),
        ("missing.jsonl", FileNotFoundError, "no file or folder missing.jsonl"),
        ("notes.docx", ValueError, "none of the files that can be read"),
        ("train.jsonl", ValueError, "cannot be read"),
        ("empty", (ValueError, OSError), "empty"),
    ],
)
def test_mistakes_are_named_in_one_line(path, error, says, tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.docx").write_bytes(b"PK")
    (tmp_path / "train.jsonl").write_text('{"text": "a"\n{{{')
    (tmp_path / "empty").mkdir()
    name = str(tmp_path / path) if (tmp_path / path).exists() else path
    with pytest.raises(error, match=says) as caught:
        load(name, cache)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_split_is_named(streaming, write, cache):
    folder = write(train=ROWS, validation=ROWS)
    (Path(folder) / "test.csv").write_text("text,label\n")
    for split in ("train", "validation"):
        datasets.Dataset.from_list(ROWS).to_csv(Path(folder) / f"{split}.csv", index=False)
        (Path(folder) / f"{split}.jsonl").unlink()
    with pytest.raises(ValueError, match=r"the test split of .* is empty"):
        load(folder, cache, streaming=streaming)


def test_a_saved_set_with_an_empty_split_is_named(tmp_path, cache):
    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows, "test": rows.select([])}).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path, cache)


def test_without_a_network_a_hub_set_is_missed_at_once(tmp_path, monkeypatch):
    import huggingface_hub

    def asked(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    for where in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(where, "HF_HUB_OFFLINE", False)  # put back afterwards
    told = []
    monkeypatch.setattr(
        "huggingface_hub.utils._http.logger.warning", lambda *_, **__: told.append(1)
    )
    with pytest.raises(FileNotFoundError, match="no set on the hub that can be reached"):
        load("someone/set", tmp_path)
    assert not told  # nothing was tried again
    assert huggingface_hub.constants.HF_HUB_OFFLINE


def test_a_hub_set_that_is_a_program_is_read_from_its_tables(tmp_path, monkeypatch) -> None:
    asked = []

    def load_dataset(path, name=None, *, data_dir=None, revision=None, **_):
        asked.append((path, name, data_dir, revision))
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found trec.py")
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load("someone/set", tmp_path)["train"]) == 36
    assert asked == [
        ("someone/set", None, None, None),
        ("someone/set", None, None, "refs/convert/parquet"),
    ]


def test_one_text_is_divided_by_position(tmp_path):
    lines = [f"line {i}\n" for i in range(100)]
    (tmp_path / "mine.txt").write_text("".join(lines))
    splits = ("train", "validation", "test")
    sets = source.load(str(tmp_path / "mine.txt"), None, splits, 0.1, False, str(tmp_path), True)
    train, held = (sets[name][0]["text"] for name in splits[:2])
    assert train + held == "".join(lines)
    assert train.endswith("\n")
    assert 8 <= held.count("\n") <= 12
