"""Broken samples are refused by name, or left out of every split and counted; which ones never changes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value

import tfzoo.data.images
from tfzoo.data.datamodule import TaskData
from tfzoo.data.generation import GenerationData
from tfzoo.data.image_classification import ImageClassificationData
from tfzoo.data.text_classification import TextClassificationData
from tfzoo.data.translation import TranslationData

PAIRS = [{"source": f"some text {i}", "target": f"又一句 {i}"} for i in range(40)]
TEXTS = [{"text": f"some text {i}", "label": "ab"[i % 2]} for i in range(40)]
LONG = "word " * 20_000
STREAMS = {"plain": {}, "streamed": {"streaming": True, "max_length": 64, "shuffle_buffer": 16}}


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What users are told on the way."""
    lines: list[str] = []
    monkeypatch.setattr("tfzoo.data.broken.rank_zero_info", lines.append)
    return lines


def with_broken(good: list[dict], *broken: dict) -> list[dict]:
    """The broken rows among the good ones: the first at place 3, the others every third row after it."""
    rows = list(good)
    for place, row in enumerate(broken):
        rows.insert(3 + 3 * place, row)
    return rows


def pairs(folder: str, **options) -> TranslationData:
    return TranslationData(folder, "source", "target", tokenizer="bytes", **options)


def texts(folder: str, **options) -> TextClassificationData:
    return TextClassificationData(folder, tokenizer="bytes", **options)


BROKEN = {
    "no source": (pairs, PAIRS, {"source": None, "target": "x"}, "has no text in column 'source' (beside 'x')"),
    "empty target": (pairs, PAIRS, {"source": "y", "target": ""}, "has an empty text in column 'target' (beside 'y')"),
    "white target": (pairs, PAIRS, {"source": "y", "target": " \t\u3000"}, "has an empty text in column 'target'"),
    "no text": (texts, TEXTS, {"text": None, "label": "a"}, "has no text in column 'text'"),
    "empty text": (texts, TEXTS, {"text": "\n", "label": "a"}, "has an empty text in column 'text'"),
    "no label": (texts, TEXTS, {"text": "z", "label": None}, "has no label in column 'label'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
def test_the_first_broken_row_is_named_or_all_are_left_out(write, cache, said, case, options):
    make, good, bad, what = BROKEN[case]
    rows = with_broken(good, bad, bad)
    folder = write(train=rows, validation=with_broken(good[:8], bad), test=good[:8])
    with pytest.raises(ValueError, match=r"row 3 \(from 0\) of the train split ") as told:
        _ = make(folder, cache_dir=cache, **options).facts
    assert what in str(told.value)
    assert str(told.value).endswith("; data.skip_broken true leaves such rows out")
    assert not said
    data = make(folder, cache_dir=cache, skip_broken=True, **options)
    alone = make(write_to(folder, "alone", train=good, validation=good[:8]), cache_dir=cache, **options)  # fmt: skip
    assert data.facts == alone.facts
    of = "16" if options else "42"
    assert said[0].startswith(f"Of the train split, 2 of {of} rows are broken and left out, ")
    assert said[1].startswith("Of the validation split, 1 of 9 rows are broken and left out, ")
    assert all(f"such as row 3 (from 0) {what}" in line for line in said)
    assert len(said) == 2
    for name in ("train_dataloader", "val_dataloader"):
        ours, theirs = (list(getattr(of, name)()) for of in (data, alone))
        assert sum(len(b.labels) for b in ours) == sum(len(b.labels) for b in theirs)
        if not options:
            assert all(map(same, ours, theirs))
    assert not any("\ufffd" in line for line in said)


def same(ours, theirs) -> bool:
    return all(
        torch.equal(value, getattr(theirs, name))
        for name, value in vars(ours).items()
        if isinstance(value, torch.Tensor)
    )


def write_to(folder: str, name: str, **splits: list[dict]) -> str:
    home = Path(folder).parent / f"{Path(folder).name}-{name}"
    home.mkdir()
    for split, rows in splits.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (home / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return str(home)


def test_every_pool_of_a_stream_is_sifted(write, cache, said):
    """A pool in which nothing is left is passed over, and rows are counted from the stream's begin."""
    none = {"text": "", "label": "a"}
    rows = [*TEXTS[:16], *[none] * 16, *TEXTS[16:], none]
    folder = write(train=rows, validation=TEXTS[:8])
    options = {**STREAMS["streamed"], "cache_dir": cache}
    loader = texts(folder, **options).train_dataloader()
    with pytest.raises(ValueError, match=r"row 16 \(from 0\) of the train split has an empty text"):
        list(loader)
    seen = [
        t for b in texts(folder, skip_broken=True, **options).train_dataloader() for t in b.text
    ]
    assert sorted(seen) == sorted(row["text"] for row in TEXTS)
    assert said == [
        "Of the train split, 16 rows are left out, now row 16 (from 0) has an empty text in column 'text'."
    ]  # 17 is not yet worth another line


def test_a_label_that_training_has_not(write, cache, said):
    folder = write(train=TEXTS, validation=[*TEXTS[:8], {"text": "x", "label": "c"}])
    with pytest.raises(
        ValueError, match=r"row 8 \(from 0\) of the validation split has the label 'c', which"
    ):
        _ = texts(folder, cache_dir=cache).facts
    data = texts(folder, cache_dir=cache, skip_broken=True)
    assert sum(len(b.labels) for b in data.val_dataloader()) == 8
    assert said == [
        f"Of the {split} split, 1 of 9 rows are broken and left out, such as row 8 (from 0) "
        "has the label 'c', which training has not."
        for split in ("validation", "test")  # which are one here
    ]


def test_rows_keep_their_number_however_many_went_before(write, cache, said):
    rows = with_broken(TEXTS, {"text": "", "label": "a"}, {"text": LONG, "label": "a"})
    data = texts(
        write(train=rows, validation=TEXTS), cache_dir=cache, skip_broken=True, max_length=99
    )
    sieve = data.facts and data.sieve.left_out["train"]
    assert [sentence.partition(" has ")[0] for sentence in sieve] == [
        "row 3 (from 0)",
        "row 6 (from 0)",
    ]


def test_rows_of_a_set_that_was_divided_have_the_number_they_have_in_its_file(write, cache, said):
    none = [{"text": "", "label": f"only {number}"} for number in range(12)]
    folder = write(train=[row for pair in zip(TEXTS, none, strict=False) for row in pair])
    data = texts(folder, cache_dir=cache, skip_broken=True, validation_fraction=0.4)
    found = data.facts and data.sieve.left_out
    numbers = {s: [int(told.split()[1]) for told in found[s]] for s in ("train", "validation")}
    assert all(numbers.values())
    assert sorted(numbers["train"] + numbers["validation"]) == list(range(1, 24, 2))
    assert "such as row" in said[1]
    assert "(from 0) of train has an empty text" in said[1]
    with pytest.raises(ValueError, match=rf"row {numbers['train'][0]} \(from 0\) of the train "):
        _ = texts(folder, cache_dir=cache, validation_fraction=0.4).facts


@pytest.mark.parametrize("make", [pairs, texts])
@pytest.mark.parametrize("options", [{"max_length": 64}, {}], ids=["max_length", "no bound"])
def test_what_is_too_long_and_not_cut(write, cache, said, make, options):
    good = PAIRS if make is pairs else TEXTS
    bad = {**good[0], "source" if make is pairs else "text": LONG}
    folder = write(train=with_broken(good, bad), validation=good[:8])
    with pytest.raises(ValueError, match=r"max_length"):
        make(folder, cache_dir=cache, **options).train_dataloader()
    data = make(folder, cache_dir=cache, skip_broken=True, **options)
    assert sum(len(b.labels) for b in data.train_dataloader()) == 40
    (line,) = said
    assert (
        "1 of 41 rows are broken and left out, such as row 3 (from 0) has 100001 tokens, more than"
        in line
    )
    del said[:]
    if options:  # truncated it is as good as any
        whole = make(folder, cache_dir=cache, skip_broken=True, truncate=True, **options)
        assert sum(len(b.labels) for b in whole.train_dataloader()) == 41
        assert not said


FORMS = {
    ".jsonl": lambda text: b'{"text": "' + text + b'", "label": "a"}\n',
    ".csv": lambda text: text + b",a\n",
    ".txt": lambda text: text + b"\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("streaming", [False, True])
def test_lines_that_are_no_utf8(tmp_path, cache, said, form, streaming):
    lines = [FORMS[form](f"text {i} é".encode()) for i in range(60)]
    lines.insert(20, FORMS[form](b"caf\xe9 caf\xe9"))
    head = b"text,label\n" if form == ".csv" else b""
    for split in ("train", "validation"):
        (tmp_path / f"{split}{form}").write_bytes(head + b"".join(lines))
    options = {"streaming": streaming, "cache_dir": cache, "context": 8, "rows_are": "lines"}
    line = 22 if head else 21
    with pytest.raises(
        ValueError, match=rf"train{form} is not UTF-8 text: line {line} holds the byte 0xe9"
    ):
        list(GenerationData(str(tmp_path), **options).train_dataloader())
    data = GenerationData(str(tmp_path), skip_broken=True, **options)
    assert "é" in data.facts.tokenizer.decode(range(data.facts.tokenizer.vocab_size))
    assert "\ufffd" not in data.facts.tokenizer.inner.get_vocab()
    assert said[0].startswith(
        "Of the train split, 1 of 61 rows are broken and left out, such as row 20 (from 0) "
        "is not UTF-8 in column 'text' ('caf\ufffd caf\ufffd\\n')"
    )
    seen = sum(int((b.labels >= 0).sum()) for b in data.val_dataloader())
    assert seen == sum(len(f"text {i} é\n") for i in range(60)) - 1


def test_empty_lines_of_running_text_are_text(tmp_path, cache, said):
    (tmp_path / "train.txt").write_text("a b\n\n\nc\n" * 50)
    data = GenerationData(str(tmp_path), rows_are="lines", context=8, cache_dir=cache)
    assert sum(b.tokens.numel() for b in data.val_dataloader())
    skipping = GenerationData(
        str(tmp_path), rows_are="lines", context=8, cache_dir=cache, skip_broken=True
    )
    assert skipping.facts == data.facts
    assert not said


@pytest.mark.parametrize("label", ["0,1", "a,b"])
def test_missing_cells_of_a_table(tmp_path, cache, label):
    names = label.split(",")
    rows = [f"text {i},{names[i % 2]}" for i in range(20)]
    rows.insert(5, "no label,")
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    with pytest.raises(ValueError, match=r"split has no label in column 'label'"):
        _ = texts(str(tmp_path), cache_dir=cache).facts
    data = texts(str(tmp_path), cache_dir=cache, skip_broken=True)
    assert data.facts.labels == tuple(names), "whole numbers stay such beside a missing one"
    seen = [len(b.labels) for at in (data.train_dataloader(), data.val_dataloader()) for b in at]
    assert sum(seen) == 20


def test_a_number_that_is_no_class(write, cache):
    rows = [{"text": f"text {i}", "label": float(i % 2)} for i in range(20)]
    folder = write(train=with_broken(rows, {"text": "half", "label": 0.5}), validation=rows)
    with pytest.raises(
        ValueError, match=r"row 3 .* has 0.5 in column 'label', where a class is wanted"
    ):
        _ = texts(folder, cache_dir=cache).facts
    assert texts(folder, cache_dir=cache, skip_broken=True).facts.labels == ("0", "1")


@pytest.mark.parametrize("make", [pairs, texts])
def test_nothing_left_is_an_error(write, cache, make):
    good = PAIRS if make is pairs else TEXTS
    empty = [dict.fromkeys(good[0], "")] * 5
    folder = write(train=good, validation=empty)
    with pytest.raises(
        ValueError, match=r"nothing is left of the validation split: 5 of 5 rows are broken"
    ):
        _ = make(folder, cache_dir=cache, skip_broken=True).facts


def damage(folder: str) -> list[Path]:
    """Images of four kinds that cannot be read."""
    files = sorted(Path(folder).rglob("*.png"))[::7][:4]
    for file, content in zip(
        files, (b"", b"no image", files[2].read_bytes()[:90], b"\x89PNG\r\n\x1a\n" + bytes(40)), strict=True
    ):  # fmt: skip
        file.write_bytes(content)
    return files


@pytest.mark.parametrize("streaming", [False, True])
def test_images_that_cannot_be_read(pictures, cache, said, streaming):
    folder = pictures()
    options = {"cache_dir": cache, "streaming": streaming, "batch_size": 4}
    broken = damage(folder)
    with pytest.raises(
        ValueError, match=r"\.png is missing, broken or no image; data.skip_broken true"
    ):
        list(ImageClassificationData(folder, **options).train_dataloader())
    data = ImageClassificationData(folder, skip_broken=True, **options)
    seen = [len(b.labels) for at in (data.train_dataloader(), data.val_dataloader()) for b in at]
    assert sum(seen) == 30 - len(broken)
    assert "holds no image that can be read (" in said[0]
    assert ".png: " in said[0]


def test_images_are_tried_once(pictures, cache, said, monkeypatch):
    folder = pictures()
    damage(folder)
    options = {"cache_dir": cache, "skip_broken": True, "mean": [0.5], "std": [0.5]}
    first = ImageClassificationData(folder, **options)
    kept = [b.images for b in first.train_dataloader()]
    told = list(said)
    decoded, count = tfzoo.data.images.decoded, []
    monkeypatch.setattr(tfzoo.data.images, "decoded", lambda *of: count.append(1) or decoded(*of))
    second = ImageClassificationData(folder, **options)
    again = [b.images for b in second.train_dataloader()]
    assert all(map(torch.equal, kept, again))
    assert said == told * 2
    assert not count


@pytest.mark.slow
def test_images_tried_by_several_processes_leave_the_environment_what_it_is(pictures, cache, said):
    """What holds `os.environ`, as rich does, still sees what is set there."""
    folder, environment = pictures(), os.environ
    broken = damage(folder)
    options = {"cache_dir": cache, "skip_broken": True, "workers": 2}
    data = ImageClassificationData(folder, **options)
    seen = [len(b.labels) for at in (data.train_dataloader(), data.val_dataloader()) for b in at]
    assert sum(seen) == 30 - len(broken)
    assert os.environ is environment


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tif"])
def test_an_image_damaged_anywhere_is_read_or_named(ending):
    """Whatever Pillow raises: nothing but the one error comes out."""
    import io

    from PIL import Image

    chance = np.random.default_rng(0)
    drawn = io.BytesIO()
    pixels = chance.integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(drawn, {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending))
    whole = np.frombuffer(drawn.getvalue(), np.uint8)
    told = []
    for _ in range(150):
        content = whole.copy()
        places = chance.integers(0, min(len(whole), 400), 3)
        content[places] = chance.integers(0, 256, 3)
        cut = chance.integers(1, len(whole) + 1) if chance.random() < 0.3 else len(whole)
        try:
            tfzoo.data.images.decoded({"bytes": content[:cut].tobytes(), "path": None}, "train", 7)
        except ValueError as error:
            told.append(str(error))
    assert told
    assert all(
        t.startswith("image 7 (from 0) of the train split is missing, broken or no") for t in told
    )


def test_an_image_of_a_table_that_was_divided_has_the_number_of_its_row(pictures, tmp_path, cache):
    files = sorted(Path(pictures()).rglob("*.png"))
    rows = [
        {"image": {"bytes": f.read_bytes(), "path": None}, "label": f.parent.name} for f in files
    ]
    features = Features({"image": Image(), "label": Value("string")})
    for broken in (4, 19):  # one of them is held out for validation, one is not
        damaged = [dict(row) for row in rows]
        damaged[broken]["image"] = {"bytes": b"no image", "path": None}
        table = tmp_path / f"{broken}.parquet"
        Dataset.from_list(damaged, features=features).to_parquet(table)
        data = ImageClassificationData(str(table), cache_dir=cache, validation_fraction=0.5)
        with pytest.raises(ValueError, match=rf"image {broken} \(from 0\) of the train split is "):
            [list(loader) for loader in (data.train_dataloader(), data.val_dataloader())]


@pytest.mark.parametrize(("usual", "odd"), [("a", 3), (0, "three"), ("a", 0.5)])
def test_a_value_of_another_kind_is_named(write, cache, usual, odd):
    rows = [{"text": f"text {i}", "label": usual} for i in range(40)]
    folder = write(train=[*rows[:31], {"text": "odd", "label": odd}, *rows[31:]])
    with pytest.raises(ValueError, match=rf"row 31 \(from 0\) of the train split .*{odd}"):
        _ = texts(folder, cache_dir=cache).facts


def test_resumed_loaders_see_the_same_samples(write, cache):
    rows = with_broken(TEXTS, *[{"text": "", "label": "a"}] * 9)
    folder = write(train=rows, validation=TEXTS)
    options = {"cache_dir": cache, "skip_broken": True, "batch_tokens": 64}
    whole = texts(folder, **options).train_dataloader()
    heard = [tuple(b.text) for _ in range(2) for b in whole]
    stopped = texts(folder, **options).train_dataloader()
    passing = iter(stopped)
    before = [tuple(next(passing).text) for _ in range(3)]
    resumed = texts(folder, **options).train_dataloader()
    resumed.load_state_dict(stopped.state_dict())
    after = [tuple(b.text) for _ in range(2) for b in resumed]
    assert (before + after)[: len(heard)] == heard


def test_a_task_may_know_nothing_of_flaws():
    assert TaskData.flaws(None, None, None) == {}  # type: ignore[arg-type]


def test_a_file_that_went_away_is_named(pictures, cache):
    folder = pictures()
    gone = sorted(Path(folder).rglob("*.png"))[2]
    data = ImageClassificationData(folder, cache_dir=cache)
    _ = data.facts
    shutil.move(gone, gone.with_suffix(".gone"))
    with pytest.raises(ValueError, match="is missing, broken or no image"):
        data.train_dataloader(), data.val_dataloader()
