"""Labelled texts become batches that begin with <cls>, and labels are never guessed."""

from dataclasses import replace

import datasets
import pytest

from tfzoo.data.text_classification import TextClassificationData, TextFacts

ROWS = [{"text": "good " * (i % 6 + 1), "label": ["neg", "pos"][i % 2]} for i in range(50)]


@pytest.mark.parametrize("packing", [False, True])
def test_every_text_is_fed_after_its_cls(write, cache, packing):
    data = TextClassificationData(
        write(train=ROWS),
        tokenizer="characters",
        batch_tokens=128,
        packing=packing,
        cache_dir=cache,
    )
    facts, seen = data.facts, []
    for batch in data.train_dataloader():
        assert batch.tokens.numel() <= 128
        flat, segments = batch.tokens.flatten(), batch.layout.segments.flatten()
        for start, text, label in zip(batch.first, batch.text, batch.labels, strict=True):
            (ids,) = facts.encode([text])
            assert flat[start : start + len(ids)].tolist() == ids
            assert len(set(segments[start : start + len(ids)].tolist())) == 1
            seen.append((text, facts.labels[label]))
    held = [
        (t, facts.labels[x])
        for b in data.val_dataloader()
        for t, x in zip(b.text, b.labels, strict=True)
    ]
    assert sorted(seen + held) == sorted((row["text"], row["label"]) for row in ROWS)
    assert facts.longest == 31
    assert TextFacts.from_dict(facts.to_dict()) == facts


def test_pairs_are_joined_by_sep(write, cache):
    rows = [{"premise": f"a{i}", "hypothesis": f"b{i}", "label": i % 3} for i in range(30)]
    data = TextClassificationData(
        write(train=rows), text_pair="hypothesis", tokenizer="characters", cache_dir=cache
    )
    batch = next(iter(data.val_dataloader()))
    first, second = batch.text[0].split("\n")
    (fed,) = data.facts.encode([(first, second)])
    assert batch.tokens[0, : len(fed)].tolist() == fed
    tokenizer = data.facts.tokenizer
    assert fed == [
        tokenizer.cls,
        *tokenizer.encode(first),
        tokenizer.sep,
        *tokenizer.encode(second),
    ]
    for wrong in ([first], [(first,)], [(first, second, second)], first):
        with pytest.raises(ValueError, match="trained on pairs of texts"):
            data.facts.encode(wrong)
    single = replace(data.facts, pairs=False)
    for wrong in ([(first, second)], first):
        with pytest.raises(ValueError, match="trained on single texts"):
            single.encode(wrong)
    with pytest.raises(ValueError, match="trained on pairs of texts, the data gives single texts"):
        single.check_same(data.facts)
    assert data.facts.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"label": "x", "text": "a b"}, "text", "label"),
        ({"idx": 1, "sentence": "a b", "label": 1}, "sentence", "label"),
        ({"text": "a", "fine_label": 3, "coarse_label": 0}, "text", "coarse_label"),
        ({"idx": 7, "review": "a b", "mood": "bad"}, "review", "mood"),
        ({"body": "a b", "stars": 4}, "body", "stars"),
    ],
)
def test_columns_are_found(columns, text, label, write, cache):
    other = {k: v + 1 if isinstance(v, int) else f"{v} c" for k, v in columns.items()}
    rows = [columns, other] * 9
    data = TextClassificationData(write(train=rows, dev=rows), tokenizer="bytes", cache_dir=cache)
    assert len(data.facts.labels) == 2
    assert (data.text, data.label) == (text, label)


def test_declared_classes_keep_their_order(tmp_path, cache):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "never", "a"])}
    )
    rows = [{"text": f"text {i}", "label": 2 * (i % 2)} for i in range(30)]
    train = datasets.Dataset.from_list(rows, features=features)
    hidden = datasets.Dataset.from_list([{"text": "x", "label": -1}], features=features)
    datasets.DatasetDict({"train": train, "test": hidden}).save_to_disk(tmp_path)
    options = {"tokenizer": "bytes", "cache_dir": cache}
    with pytest.raises(ValueError, match=r"test split has the label -1.*hidden label"):
        _ = TextClassificationData(str(tmp_path), **options).facts
    data = TextClassificationData(str(tmp_path), test_split="train", **options)
    assert data.facts.labels == ("z", "never", "a")


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (ROWS, {"text": "body"}, "no column 'body' for the text, only text"),
        ([{"text": f"a{i}", "label": "one"} for i in range(20)], {}, "holds 1 class"),
        ([*ROWS, {"text": "b", "label": None}], {}, "no label in column 'label'"),
        ([{"a": 1.5, "b": i / 2} for i in range(20)], {}, "no column can be the text"),
    ],
)
def test_mistakes_are_named(rows, options, says, write, cache):
    with pytest.raises(ValueError, match=says):
        _ = TextClassificationData(write(train=rows), cache_dir=cache, **options).facts


def test_a_label_never_seen_in_training_is_named_with_its_split(write, cache):
    folder = write(train=ROWS, test=[{"text": "so so", "label": "neutral"}])
    with pytest.raises(ValueError, match="the test split has the label 'neutral'"):
        _ = TextClassificationData(folder, tokenizer="bytes", cache_dir=cache).facts
