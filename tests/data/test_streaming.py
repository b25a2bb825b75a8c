"""A streamed set gives what a small set gives, and resumes in the middle."""

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from tfzoo.data.generation import GenerationData
from tfzoo.data.image_classification import ImageClassificationData
from tfzoo.data.text_classification import TextClassificationData
from tfzoo.data.translation import TranslationData

ROWS = [{"en": f"go {i} " * (i % 5 + 1), "zh": "走" * (i % 5 + 1)} for i in range(100)]


def translation(folder: str, cache: str, **options) -> TranslationData:
    return TranslationData(
        folder,
        "en",
        "zh",
        tokenizer="characters",
        batch_tokens=256,
        max_length=64,
        cache_dir=cache,
        **{"streaming": True, "shuffle_buffer": 30, **options},
    )


def texts(loader) -> list[str]:
    return [text for batch in loader for text in batch.source_text]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_comes_once_an_epoch_in_another_order(write, cache, workers):
    data = translation(write(train=ROWS, validation=ROWS[:20]), cache, workers=workers)
    loader = data.train_dataloader()
    first, second = texts(loader), texts(loader)
    assert sorted(first) == sorted(second) == sorted(row["en"] for row in ROWS)
    assert first != second
    assert sorted(texts(data.val_dataloader())) == sorted(row["en"] for row in ROWS[:20])
    assert data.facts.longest_source == data.facts.longest_target == 64


def test_rows_held_out_are_not_trained_on(write, cache):
    data = translation(write(train=ROWS), cache)
    train, held = set(texts(data.train_dataloader())), set(texts(data.val_dataloader()))
    assert held
    assert not train & held
    assert len(train | held) == 100


def test_processes_share_each_row_out_in_equally_many_batches(write, cache):
    folder = write(train=ROWS, validation=ROWS)
    seen, counts = [], set()
    for rank in range(3):
        data = translation(folder, cache)
        loader = data.val_dataloader()
        loader.dataset.share = (rank, 3)
        batches = list(loader)
        counts.add(len(batches))
        seen += [text for batch in batches for text in batch.source_text]
    assert len(counts) == 1
    assert sorted(seen) == sorted(row["en"] for row in ROWS)


@pytest.mark.parametrize(("workers", "taken"), [(0, 3), (0, 11), (2, 5)])
def test_a_stopped_stream_goes_on(write, cache, workers, taken):
    folder = write(train=ROWS, validation=ROWS)

    def loader() -> StatefulDataLoader:
        return translation(folder, cache, workers=workers).train_dataloader()

    reference = loader()
    whole = [batch.source for _ in range(2) for batch in reference]
    stopped = loader()
    passed = iter(stopped)
    for _ in range(taken):
        next(passed)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    after = [batch.source for _ in range(2) for batch in resumed]
    assert all(torch.equal(a, b) for a, b in zip(after, whole[taken:], strict=False))
    assert len(after) >= len(whole[taken:])


def test_labelled_texts(write, cache):
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(50)]
    data = TextClassificationData(
        write(train=rows, test=rows),
        tokenizer="bytes",
        streaming=True,
        max_length=5,
        truncate=True,
        cache_dir=cache,
    )
    assert data.facts.labels == ("a", "b")
    seen = [text for batch in data.test_dataloader() for text in batch.text]
    assert sorted(seen) == sorted(row["text"] for row in rows)
    assert max(batch.tokens.shape[1] for batch in data.train_dataloader()) == 5


def test_lines_of_text(tmp_path, cache):
    lines = [f"line {i}" if i % 3 else "" for i in range(300)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    data = GenerationData(
        str(tmp_path), rows_are="lines", context=16, batch_size=4, streaming=True, cache_dir=cache
    )
    small = GenerationData(str(tmp_path), context=16, batch_size=4, cache_dir=cache)
    assert data.facts == small.facts
    for ours, theirs in zip(data.val_dataloader(), small.val_dataloader(), strict=True):
        assert torch.equal(ours.tokens, theirs.tokens)
        assert torch.equal(ours.labels, theirs.labels)


def test_images(pictures, cache):
    options = {"cache_dir": cache, "batch_size": 8, "affine": 10}
    data = ImageClassificationData(pictures(), streaming=True, **options)
    counts = [
        sum(len(b.labels) for b in x) for x in (data.train_dataloader(), data.val_dataloader())
    ]
    assert sum(counts) == 30
    assert all(counts)
