"""Parallel text becomes batches that say what the rows said."""

import pytest
import torch

from tfzoo.data.batching import IGNORE
from tfzoo.data.translation import TranslationData, TranslationFacts

ROWS = [{"id": str(i), "en": "go " * (i % 7 + 1), "zh": "走" * (i % 5 + 1)} for i in range(60)]
COMMON = {"source": "en", "target": "zh", "tokenizer": "characters"}


@pytest.fixture
def folder(write) -> str:
    return write(train=ROWS, validation=ROWS[:9], test=ROWS[:4])


@pytest.mark.parametrize("packing", [False, True])
def test_batches_say_what_the_rows_say(folder, cache, packing):
    data = TranslationData(folder, cache_dir=cache, packing=packing, batch_tokens=64, **COMMON)
    facts, seen = data.facts, []
    for batch in data.train_dataloader():
        assert max(batch.source.numel(), batch.target.numel()) <= 64
        assert batch.target.shape == batch.labels.shape
        places = torch.argwhere(batch.source_layout.segments > 0)
        spans = dict.fromkeys(
            (r, int(batch.source_layout.segments[r, c])) for r, c in places.tolist()
        )
        assert len(spans) == len(batch.source_text) == len(batch.target_text)
        texts = zip(batch.source_text, batch.target_text, strict=True)
        for (row, segment), (source, target) in zip(spans, texts, strict=True):
            of_source = batch.source_layout.segments[row] == segment
            of_target = batch.target_layout.segments[row] == segment
            fed, expected = batch.target[row][of_target], batch.labels[row][of_target]
            assert batch.source[row][of_source].tolist() == [*facts.source.encode(source), 2]
            assert fed.tolist() == [1, *facts.target.encode(target)]
            assert expected.tolist() == [*fed.tolist()[1:], 2]
        assert (batch.labels[batch.target_layout.segments == 0] == IGNORE).all()
        seen += zip(batch.source_text, batch.target_text, strict=True)
    assert sorted(seen) == sorted((row["en"], row["zh"]) for row in ROWS)


def test_facts(folder, cache):
    facts = TranslationData(folder, cache_dir=cache, **COMMON).facts
    assert facts.bleu_tokenize == "zh"
    assert (facts.longest_source, facts.longest_target) == (22, 6)
    assert TranslationFacts.from_dict(facts.to_dict()) == facts
    flipped = TranslationData(folder, "zh", "en", tokenizer="bytes", cache_dir=cache).facts
    assert flipped.bleu_tokenize == "13a"


def test_evaluation_counts_each_sample_once(folder, cache):
    data = TranslationData(folder, cache_dir=cache, **COMMON)
    for loader, rows in ((data.val_dataloader(), 9), (data.test_dataloader(), 4)):
        assert sum(len(batch.source_text) for batch in loader) == rows
    assert len(list(data.predict_dataloader())) == len(list(data.test_dataloader()))


def test_columns_by_default_and_the_form_of_wmt(write, cache):
    nested = [{"translation": {"de": row["zh"], "en": row["en"]}} for row in ROWS]
    data = TranslationData(write(train=nested), tokenizer="bytes", cache_dir=cache)
    assert "走" in next(iter(data.val_dataloader())).source_text[0]
    data = TranslationData(data.path, "en", "de", tokenizer="bytes", cache_dir=cache)
    assert "走" in next(iter(data.val_dataloader())).target_text[0]
    data = TranslationData(data.path, target="de", tokenizer="bytes", cache_dir=cache)
    assert "走" in next(iter(data.val_dataloader())).target_text[0]


def test_a_shared_vocabulary_and_a_target_tokenizer_of_its_own(folder, cache):
    shared = TranslationData(folder, shared_vocabulary=True, cache_dir=cache, **COMMON).facts
    assert shared.source == shared.target
    assert shared.source.decode(shared.source.encode("go走")) == "go走"
    mixed = TranslationData(folder, target_tokenizer="bytes", cache_dir=cache, **COMMON).facts
    assert (mixed.source.vocab_size < 20, mixed.target.vocab_size) == (True, 262)


def test_dropout_is_of_training_alone_and_new_in_each_epoch(folder, cache):
    options = {"source": "en", "target": "zh", "vocab_size": 270, "cache_dir": cache}
    data = TranslationData(folder, bpe_dropout=0.4, max_length=30, batch_tokens=64, **options)
    loader = data.train_dataloader()
    epochs = [sorted(b.source.numel() for b in loader) for _ in range(2)]
    assert max(max(sizes) for sizes in epochs) <= 64
    lengths = [
        {t: tuple(b.source[i].tolist()) for b in epoch for i, t in enumerate(b.source_text)}
        for epoch in ([*loader], [*loader])
    ]
    assert lengths[0] != lengths[1]
    plain = TranslationData(folder, max_length=30, **options)
    for ours, theirs in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        assert torch.equal(ours.source, theirs.source)
    assert data.facts.longest_source <= 30


def test_copies_are_of_training_targets_alone(folder, cache):
    options = {**COMMON, "cache_dir": cache, "shared_vocabulary": True}
    data = TranslationData(folder, copies=0.5, **options)
    pairs = [
        pair
        for batch in data.train_dataloader()
        for pair in zip(batch.source_text, batch.target_text, strict=True)
    ]
    copied = [target for source, target in pairs if source == target]
    assert len(copied) == len(ROWS) // 2
    assert sorted(p for p in pairs if p[0] != p[1]) == sorted((r["en"], r["zh"]) for r in ROWS)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert all(
            s != t for b in loader for s, t in zip(b.source_text, b.target_text, strict=True)
        )
    with pytest.raises(ValueError, match="shared vocabulary"):
        TranslationData(folder, copies=0.5, **{**options, "shared_vocabulary": False})


def test_copies_and_translations_of_the_same_length_come_together(write, cache):
    rows = [{"en": "go" * (1 + i % 3), "zh": "走" * (4 + i % 3)} for i in range(300)]
    folder = write(train=rows, validation=rows[:9], test=rows[:4])
    options = {**COMMON, "cache_dir": cache, "shared_vocabulary": True, "batch_tokens": 160}
    for batch in TranslationData(folder, copies=1.0, **options).train_dataloader():
        copied = [s == t for s, t in zip(batch.source_text, batch.target_text, strict=True)]
        assert len(copied) < 8 or 0.1 < sum(copied) / len(copied) < 0.9


def test_too_long_is_refused_or_cut(folder, cache):
    options = {"cache_dir": cache, "max_length": 10, **COMMON}
    with pytest.raises(ValueError, match=r"of 60 samples of the train split .* longest with 22"):
        _ = TranslationData(folder, **options).facts
    data = TranslationData(folder, truncate=True, **options)
    assert data.facts.longest_source == 10
    for batch in data.train_dataloader():
        assert batch.source.shape[1] <= 10
        assert (batch.source.gather(1, batch.source_layout.segments.sum(1, True) - 1) == 2).all()


def test_a_changed_tokenizer_is_never_served_from_the_cache(folder, cache):
    for kind in ("bytes", "characters", "bytes"):
        data = TranslationData(folder, "en", "zh", tokenizer=kind, cache_dir=cache)
        batch = next(iter(data.val_dataloader()))
        ids = batch.source[0][batch.source_layout.segments[0] > 0].tolist()
        assert data.facts.source.decode(ids) == batch.source_text[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": "fr"}, r"no column 'fr' for the source, only id \(text\), en \(text\)"),
        ({"source": "en", "target": "en"}, "same column 'en'"),
        ({"batch_tokens": 0}, "batch_tokens must be positive"),
        ({"batch_tokens": 8, **COMMON}, "sample 2 has 10 tokens"),
        ({"truncate": True}, "truncate needs max_length"),
        ({"streaming": True}, "streaming needs max_length"),
        ({"bpe_dropout": 1.5}, "bpe_dropout must be in"),
        ({"bpe_dropout": 0.1, **COMMON}, "bpe_dropout needs a bpe tokenizer"),
        ({"max_length": 5000}, "at most batch_tokens"),
        ({"shared_vocabulary": True, "target_tokenizer": "bytes"}, "one tokenizer"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"validation_fraction": 1}, "validation_fraction"),
    ],
)
def test_mistakes_are_named(folder, cache, options, says):
    with pytest.raises(ValueError, match=says):
        next(iter(TranslationData(folder, cache_dir=cache, **options).train_dataloader()))


def test_a_missing_text_is_named(write, cache):
    with pytest.raises(ValueError, match="train split has no text in column 'zh'"):
        _ = TranslationData(
            write(train=[*ROWS, {"en": "a", "zh": None}]), "en", "zh", cache_dir=cache
        ).facts
