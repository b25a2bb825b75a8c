"""Tasks of width 32 and depth 2, and batches for them, made without any data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch.utils.data import DataLoader

from tfzoo.backbone import Network, TransformerConfig
from tfzoo.data.batching import (
    IGNORE,
    ImageBatch,
    LanguageBatch,
    TextBatch,
    TranslationBatch,
    lay,
    starts,
)
from tfzoo.data.generation import LanguageFacts
from tfzoo.data.image_classification import ImageFacts
from tfzoo.data.text_classification import TextFacts
from tfzoo.data.tokenizer import Tokenizer
from tfzoo.data.translation import TranslationFacts
from tfzoo.tasks import Generation, ImageClassification, Task, TextClassification, Translation

BACKBONE = TransformerConfig(dim=32, depth=2, heads=2, hidden=64, dropout=0.0, max_length=64)
PAIRS = [("a cat", "一只猫"), ("two dogs bark", "两只狗叫"), ("no", "不"), ("the end.", "完了。")]
TEXTS = [("good book", 0), ("bad", 1), ("a very good book", 0), ("so so so so", 2)]
SPEECH = "ROMEO: But soft, what light through yonder window breaks?"

Grouped = Sequence[Sequence[Any]]
"""Samples, grouped into the rows of a batch: one each, or several where they are packed."""


def characters(*texts: str) -> Tokenizer:
    return Tokenizer.train("characters", texts)


def alone(samples: Sequence[Any]) -> Grouped:
    return [[sample] for sample in samples]


def translation(**settings: Any) -> Translation:
    sources, targets = zip(*PAIRS, strict=True)
    facts = TranslationFacts(characters(*sources), characters(*targets), "zh", 20, 20)
    torch.manual_seed(0)
    return Translation(**{"backbone": BACKBONE, "facts": facts, **settings})


def translation_batch(
    task: Translation,
    rows: Grouped = alone(PAIRS),  # noqa: B008
) -> TranslationBatch:
    ours, theirs = task.facts.source, task.facts.target
    sources = [[ours.encode(source) for source, _ in row] for row in rows]
    targets = [[theirs.encode(target) for _, target in row] for row in rows]
    source = lay([[[*s, ours.eos] for s in row] for row in sources], ours.pad)
    target = lay([[[theirs.bos, *t] for t in row] for row in targets], theirs.pad)
    labels, _ = lay([[[*t, theirs.eos] for t in row] for row in targets], IGNORE)
    pairs = [pair for row in rows for pair in row]
    texts = [[pair[side] for pair in pairs] for side in (0, 1)]
    return TranslationBatch(*source, *target, labels, *texts)


def text_classification(**settings: Any) -> TextClassification:
    facts = TextFacts(characters(*(text for text, _ in TEXTS)), ("good", "bad", "so"), 20, False)
    torch.manual_seed(0)
    return TextClassification(**{"backbone": BACKBONE, "facts": facts, **settings})


def text_batch(task: TextClassification, rows: Grouped = alone(TEXTS)) -> TextBatch:  # noqa: B008
    fed = [task.facts.encode([text for text, _ in row]) for row in rows]
    tokens, layout = lay(fed, task.facts.tokenizer.pad)
    texts, labels = zip(*(sample for row in rows for sample in row), strict=True)
    return TextBatch(
        tokens, layout, starts(fed, tokens.shape[1]), torch.tensor(labels), list(texts)
    )


def image_classification(**settings: Any) -> ImageClassification:
    facts = ImageFacts(("zero", "one", "two"), 1, 8, (0.5,), (0.25,))
    torch.manual_seed(0)
    return ImageClassification(**{"backbone": BACKBONE, "patch": 4, "facts": facts, **settings})


def image_batch(size: int = 6) -> ImageBatch:
    chance = torch.Generator().manual_seed(1)
    return ImageBatch(torch.randn(size, 1, 8, 8, generator=chance), torch.arange(size) % 3)


def generation(**settings: Any) -> Generation:
    density = {"characters": 1.0, "words": 0.25}
    facts = LanguageFacts(characters(SPEECH), 64, {"validation": density, "test": density})
    torch.manual_seed(0)
    return Generation(**{"backbone": BACKBONE, "sample_tokens": 8, "facts": facts, **settings})


def language_batch(task: Generation, texts: Sequence[str] = (SPEECH,)) -> LanguageBatch:
    rows = [task.facts.tokenizer.encode(text) for text in texts]
    tokens, layout = lay([[row[:-1]] for row in rows], task.facts.tokenizer.pad)
    labels, _ = lay([[row[1:]] for row in rows], IGNORE)
    return LanguageBatch(tokens, layout, labels)


def every_task(network: Network = "transformer") -> Iterator[tuple[Task, Any]]:
    """Each task and a batch for it; attention to a source is for those that have one."""
    backbone = replace(BACKBONE, network=network)
    task: Any
    for task, batch in (
        (translation(backbone=backbone), translation_batch),
        (text_classification(backbone=backbone.encoder), text_batch),
        (generation(backbone=backbone.encoder), language_batch),
    ):
        yield task, batch(task)
    yield image_classification(backbone=backbone.encoder), image_batch()


def memorise(task: Task, batch: Any, enough: float = 0.02, most: int = 400) -> float:
    """Train on one batch until its mean loss is below `enough`; returns the last loss."""
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3, weight_decay=0.0)
    task.train()
    for step in count():
        loss = task.loss(batch).mean
        if loss.item() < enough or step == most:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    task.eval()
    return loss.item()


def quiet_trainer(**settings: Any) -> Trainer:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**quiet | settings)


def loader(batches: Sequence[Any]) -> DataLoader:
    """Ready batches, as they are."""
    return DataLoader(list(batches), batch_size=None)


def measured(task: Task, batches: Sequence[Any], stage: str = "validate") -> dict[str, float]:
    """What a trainer logs over the batches."""
    (found,) = getattr(quiet_trainer(), stage)(task, loader(batches), verbose=False)
    return dict(found)


def rows_shown(task: Task, batches: Sequence[Any]) -> list[list[list[Any]]]:
    """For each batch the rows of samples that validation gives."""

    rows = []
    hear = LambdaCallback(
        on_validation_batch_end=lambda _, __, outputs, *___: rows.append(outputs["rows"])
    )
    quiet_trainer(callbacks=[hear]).validate(task, loader(batches), verbose=False)
    return rows
