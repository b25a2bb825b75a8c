"""Text in a file for each language is as a set with a column for each."""

import datasets
import pytest
from PIL import Image

from tfzoo.data import source
from tfzoo.data.parallel import texts_of
from tfzoo.data.translation import TranslationData

PAIRS = [(f'a "cat" {i}\u2028of ours', f"eine Katze, {i}") for i in range(40)]


def write(folder, name, texts, end="\n") -> None:
    content = "\n".join(texts) + end
    (folder / name).write_text(content, encoding="utf-8")


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for stem, part in (("train", slice(0, 30)), ("val", slice(30, 35)), ("test_2016", slice(35, 40))):  # fmt: skip
        write(folder, f"{stem}.en", [ours for ours, _ in PAIRS[part]])
        write(folder, f"{stem}.de", [theirs for _, theirs in PAIRS[part]], end="")
    (folder / "README.md").write_text("# A set\n")
    (folder / "LICENSE.txt").write_text("free\n")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_pairs_are_as_they_were(home, cache, streaming):
    splits = ("train", "validation", "test_2016")
    rows = source.load(str(home), cache_dir=cache, streaming=streaming, splits=splits)
    assert {split: len(list(rows[split])) for split in rows} == {"train": 30, "validation": 5, "test": 5}  # fmt: skip
    found = [(row["en"], row["de"]) for split in rows for row in rows[split]]
    assert found == PAIRS


def test_a_pair_of_files_alone_is_divided(tmp_path, cache):
    folder = tmp_path / "opus"
    folder.mkdir()
    write(folder, "News.en-zh_CN.en", [ours for ours, _ in PAIRS])
    write(folder, "News.en-zh_CN.zh_CN", [theirs for _, theirs in PAIRS])
    rows = source.load(str(folder), cache_dir=cache)
    assert sorted(rows["train"].column_names) == ["en", "zh_CN"]
    assert len(rows["train"]) + len(rows["validation"]) == 40


def test_they_are_translated(home, cache):
    data = TranslationData(str(home), source="en", target="de", tokenizer="characters", cache_dir=cache)  # fmt: skip
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    pairs = set(zip(batch.source_text, batch.target_text, strict=True))
    assert pairs <= set(PAIRS)


def test_lines_that_do_not_match_are_refused(home, cache):
    write(home, "val.de", ["eine"])
    with pytest.raises(ValueError, match=r"as many lines .*val\.de has 1 lines, .*val\.en has 5"):
        source.load(str(home), cache_dir=cache)


def test_only_what_is_asked_for_must_be_in_order(home, cache):
    """As the folders of Multi30k and IWSLT are: a language more in train, vocabularies beside."""
    write(home, "train.fr", ["oui"] * 30)
    write(home, "vocab.en", ["a"] * 7)
    write(home, "vocab.de", ["eine"] * 9)
    write(home, "empty.en", [], end="")
    write(home, "empty.de", [], end="")
    (home / "tokenizer.json").write_text("{}")
    (home / "meta").mkdir()
    (home / "meta/info.json").write_text("{}")
    rows = source.load(str(home), cache_dir=cache, splits=("train", "val", "test_2016"))
    assert sorted(rows["train"].column_names) == ["de", "en", "fr"]
    assert sorted(rows["test"].column_names) == ["de", "en"]
    with pytest.raises(ValueError, match=r"no line in .*empty\.de and .*empty\.en"):
        source.load(str(home), cache_dir=cache, splits=("train", "validation", "empty"))
    with pytest.raises(ValueError, match=r"no split 'other', only .*val"):
        source.load(str(home), cache_dir=cache, splits=("train", "val", "other"))


def test_validation_that_could_be_either_is_asked_for(home, cache):
    for language in ("en", "de"):
        write(home, f"dev.{language}", ["a", "b"])
    with pytest.raises(ValueError, match="val and dev may both be for validation: name one"):
        source.load(str(home), cache_dir=cache)
    rows = source.load(str(home), cache_dir=cache, splits=("train", "dev", "test_2016"))
    assert len(rows["validation"]) == 2


@pytest.mark.parametrize("replace", [False, True])
def test_bytes_that_are_no_utf8(home, cache, replace):
    (home / "train.de").write_bytes(b"\xff\n" * 30)
    if replace:
        rows = source.load(str(home), cache_dir=cache, replace=True)
        assert rows["train"][0]["de"] == "\ufffd"
    else:
        with pytest.raises(ValueError, match=r"train\.de is not UTF-8 text: line 1 holds the byte 0xff"):  # fmt: skip
            source.load(str(home), cache_dir=cache)


@pytest.mark.parametrize(
    "names",
    [
        ["train.en", "rows.bin"],
        ["train.csv", "train.tsv"],
        ["valid.en", "valid.de", "dev.en", "x.en", "x.de"],
        ["rows.csv", "make.pl", "make.ts"],
        ["train.py", "train.sh"],
        ["README.md", "README.zh", "README.en"],
    ],
    ids=str,
)
def test_other_folders_are_none_of_them(names, tmp_path):
    for name in names:
        (tmp_path / name).write_text("a\n")
    assert texts_of(tmp_path) == {}
    assert texts_of(tmp_path / "none") == {}


def test_one_language_alone_is_told(home, cache):
    for file in home.glob("*.de"):
        file.unlink()
    with pytest.raises(
        ValueError, match=r"train\.en is alone: parallel text needs a file of another"
    ):
        source.load(str(home), cache_dir=cache)


@pytest.mark.parametrize("table", ["train.jsonl", "train.csv", "train-00000.jsonl"])
def test_tables_come_first(table, home, cache):
    for file in home.iterdir():
        if file.stem != "train":
            file.unlink()
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)]
    datasets.Dataset.from_list(rows).to_json(home / table) if "json" in table else (
        datasets.Dataset.from_list(rows).to_csv(home / table, index=False)
    )
    assert source._parallel(home) == {}
    for file in home.glob("train.??"):
        file.unlink()
    assert source.load(str(home), cache_dir=cache)["train"].column_names == ["text", "label"]


def test_text_and_images_beside_programs_are_read_as_ever(tmp_path, cache):
    texts, images = tmp_path / "texts", tmp_path / "images"
    for folder in (texts, images):
        folder.mkdir()
        for program in ("make.py", "make.sh", "make.pl", "make.ts"):
            (folder / program).write_text("begin\n")
    write(texts, "train.txt", [f"line {i}" for i in range(30)])
    assert source.load(str(texts), cache_dir=cache)["train"].column_names == ["text"]
    for name in "ab":
        (images / name).mkdir()
        for i in range(10):
            Image.new("RGB", (2, 2), (i, 0, ord(name))).save(images / name / f"{i}.png")
    assert "image" in source.load(str(images), cache_dir=cache)["train"].column_names
