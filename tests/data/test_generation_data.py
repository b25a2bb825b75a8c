"""Running text becomes windows that predict every token once."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from tfzoo.data.batching import IGNORE
from tfzoo.data.generation import GenerationData, LanguageFacts

LINES = [f"line {i}\n" * (i % 4 + 1) for i in range(40)]
OPTIONS = {"context": 16, "batch_size": 4}


def stream(loader) -> list[tuple[int, int]]:
    """(token, label) of every place that is predicted, in order."""
    return [
        pair
        for batch in loader
        for tokens, labels in zip(batch.tokens.tolist(), batch.labels.tolist(), strict=True)
        for pair in zip(tokens, labels, strict=True)
        if pair[1] != IGNORE
    ]


@pytest.fixture
def one(tmp_path) -> str:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("".join(LINES), encoding="utf-8")
    return str(tmp_path)


def test_one_text_is_predicted_once_without_padding(one, cache):
    data = GenerationData(one, cache_dir=cache, **OPTIONS)
    ids = data.facts.tokenizer.encode("".join(LINES))
    assert stream(data.val_dataloader()) == list(pairwise(ids))
    *whole, last = data.val_dataloader()
    assert all(batch.layout.dense and batch.tokens.shape[1] == 16 for batch in whole)
    windows = sum(len(batch.tokens) for batch in whole)
    assert last.layout.segments.sum() == len(ids) - 1 - 16 * windows
    density = data.facts.density["validation"]
    assert density["characters"] == len("".join(LINES)) / (len(ids) - 1)
    assert density["words"] == len("".join(LINES).split()) / (len(ids) - 1)
    assert LanguageFacts.from_dict(data.facts.to_dict()) == data.facts


def test_training_windows_begin_elsewhere_in_each_epoch(one, cache):
    data = GenerationData(one, cache_dir=cache, **OPTIONS)
    text = "".join(LINES)
    loader = data.train_dataloader()
    epochs = [[batch.tokens for batch in loader] for _ in range(3)]
    assert len({len(epoch) for epoch in epochs}) == 1
    starts = []
    for epoch in epochs:
        pieces = [data.facts.tokenizer.decode(row) for batch in epoch for row in batch]
        assert all(piece in text for piece in pieces)
        assert {len(piece) for piece in pieces} == {16}
        starts.append(frozenset(pieces))
    assert len(set(starts)) == 3
    again = [
        batch.tokens for batch in GenerationData(one, cache_dir=cache, **OPTIONS).train_dataloader()
    ]
    assert all(torch.equal(a, b) for a, b in zip(epochs[0], again, strict=True))


def test_documents_are_segments_that_begin_with_eos(write, cache):
    rows = [{"text": text} for text in LINES]
    data = GenerationData(write(train=rows, validation=rows[:9]), cache_dir=cache, **OPTIONS)
    encode, eos = data.facts.tokenizer.encode, data.facts.tokenizer.eos
    expected = [id for text in LINES[:9] for id in (eos, *encode(text))]
    pairs = stream(data.val_dataloader())
    assert pairs == list(pairwise(expected))
    for batch in data.val_dataloader():
        positions, segments = batch.layout.positions, batch.layout.segments
        begins = (batch.tokens == eos) & (segments > 0)
        assert (positions[begins] == 0).all()
        new = segments[:, 1:] > segments[:, :-1]
        assert torch.equal(new, begins[:, 1:])
        along = segments[:, 1:] == segments[:, :-1]
        assert (positions[:, 1:][along] == positions[:, :-1][along] + 1).all()


def test_rows_that_are_lines_are_one_text(write, cache):
    rows = [{"text": text} for text in ["", " = Title = \n", "", " It is .", " So .\n"]] * 9
    data = GenerationData(
        write(train=rows, validation=rows), rows_are="lines", cache_dir=cache, **OPTIONS
    )
    text = "\n = Title = \n\n It is .\n So .\n" * 9
    ids = data.facts.tokenizer.encode(text)
    assert data.facts.tokenizer.decode(ids) == text
    assert stream(data.val_dataloader()) == list(pairwise(ids))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_other_tokenizers_cover_the_same_text(kind, one, cache):
    data = GenerationData(one, tokenizer=kind, vocab_size=280, cache_dir=cache, **OPTIONS)
    ids = [pair[1] for pair in stream(data.val_dataloader())]
    assert "".join(LINES).endswith(data.facts.tokenizer.decode(ids))
    characters = np.array(data.facts.density["validation"]["characters"])
    assert np.isclose(characters * len(ids), len("".join(LINES)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context": 5000}, "too few for one window"),
        ({"context": 0}, "context must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"rows_are": "pages"}, "documents or lines"),
        ({"text": "body"}, "no column 'body'"),
    ],
)
def test_mistakes_are_named(one, cache, options, says):
    with pytest.raises(ValueError, match=says):
        _ = GenerationData(one, cache_dir=cache, **options).facts
