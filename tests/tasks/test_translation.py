"""Translation: its loss under padding and packing, decoding of what was learned, scores over the corpus."""

import dataclasses

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF
from small_tasks import (
    BACKBONE,
    PAIRS,
    alone,
    measured,
    memorise,
    rows_shown,
    translation,
    translation_batch,
)
from torch.testing import assert_close

from tfzoo.data.batching import IGNORE
from tfzoo.tasks import Translation


@torch.inference_mode()
def of_pair(task, pair) -> tuple[float, int]:
    """Loss of one pair alone, token by token, straight from the formula, and its tokens."""
    batch = translation_batch(task, [[pair]])
    logits = task.network(batch.source, batch.source_layout, batch.target, batch.target_layout)
    share, total = task.label_smoothing, 0.0
    for row, label in zip(logits[0].log_softmax(-1), batch.labels[0], strict=True):
        total -= float((1 - share) * row[label] + share * row.mean())
    return total, batch.labels.numel()


ARCHITECTURES = ["encoder-decoder", "decoder-only"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "rows",
    [alone(PAIRS), [PAIRS[:2], PAIRS[2:]], [PAIRS]],
    ids=["padded", "two packed rows", "one packed row"],
)
def test_loss_is_the_sum_over_real_tokens(rows, label_smoothing, architecture):
    task = translation(label_smoothing=label_smoothing, architecture=architecture).eval()
    loss = task.loss(translation_batch(task, rows))
    totals, counts = zip(*(of_pair(task, pair) for pair in PAIRS), strict=True)
    assert float(loss.total) == pytest.approx(sum(totals), rel=1e-5)
    assert int(loss.count) == sum(counts)
    assert float(loss.mean) == pytest.approx(sum(totals) / sum(counts), rel=1e-5)


def test_gradients_too_are_the_same_packed():
    gradients = []
    for rows in (alone(PAIRS), [PAIRS]):
        task = translation()
        task.loss(translation_batch(task, rows)).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in task.parameters()]))
    assert_close(*gradients, atol=2e-5, rtol=1e-4)


def test_a_batch_of_nothing_has_no_loss():
    task = translation()
    labels = torch.full((1, 3), IGNORE)
    loss = task._cross_entropy(torch.randn(1, 3, 7), labels)
    assert (float(loss.mean), int(loss.count)) == (0.0, 0)


@pytest.fixture(scope="module")
def learned() -> Translation:
    task = translation(label_smoothing=0.0)
    assert memorise(task, translation_batch(task)) < 0.05
    return task


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_can_memorise_a_batch_and_say_it_again(learned, beam_size):
    sources, targets = zip(*PAIRS, strict=True)
    learned.beam = type(learned.beam)(beam_size)
    assert tuple(learned.translate(sources)) == targets
    # Whatever stands beside it in the batch, and however many batches.
    assert tuple(learned.translate(sources, batch_size=3)) == targets


def test_what_it_learned_it_scores_and_predicts(learned):
    # Validation does not smooth, decodes greedily and pools over batches of any size.
    batches = [
        translation_batch(learned, alone(PAIRS[:3])),
        translation_batch(learned, alone(PAIRS[3:])),
    ]
    for stage, prefix in (("validate", "val"), ("test", "test")):
        scores = measured(learned, batches, stage)
        assert scores[f"{prefix}/bleu"] == pytest.approx(100)
        assert scores[f"{prefix}/chrf"] == pytest.approx(100)
        assert scores[f"{prefix}/loss"] < 0.05
    rows = learned.predict_step(batches[0], 0)
    assert rows[0] == {"source": "a cat", "reference": "一只猫", "translation": "一只猫"}


def test_validation_is_exact_over_unequal_batches():
    task = translation(label_smoothing=0.1, max_extra_tokens=3).eval()
    parts = [alone(PAIRS[:1]), alone(PAIRS[1:])]
    scores = measured(task, [translation_batch(task, rows) for rows in parts])
    task.label_smoothing = 0.0
    totals, counts = zip(*(of_pair(task, pair) for pair in PAIRS), strict=True)
    assert scores["val/loss"] == pytest.approx(sum(totals) / sum(counts), rel=1e-5)
    task.beam = type(task.beam)(1)
    found = [t for rows in parts for t in task.translate([pair[0] for [pair] in rows])]
    references = [[target for _, target in PAIRS]]
    bleu = BLEU(tokenize="zh").corpus_score(found, references).score
    assert scores["val/bleu"] == pytest.approx(bleu, abs=1e-4)
    assert scores["val/chrf"] == pytest.approx(CHRF().corpus_score(found, references).score)


def test_rows_and_pictures(learned):
    batch = translation_batch(learned)
    (rows,) = rows_shown(learned, [batch])
    assert [len(row) for row in rows] == [len(learned.columns)] * len(PAIRS)
    assert rows[1] == ["two dogs bark", "两只狗叫", "两只狗叫"]
    picture, cross, encoder, decoder, positions = learned.pictures(batch)
    assert [p.name for p in (picture, cross, encoder, decoder, positions)] == [
        "alignment",
        "attention-cross",
        "attention-encoder",
        "attention-decoder",
        "positions",
    ]
    assert picture.weights.shape == (BACKBONE.heads, len("一只猫") + 1, len("a cat") + 1)
    assert list(picture.queries) == ["一", "只", "猫", "<eos>"]
    assert list(picture.keys)[-1] == "<eos>"
    assert_close(torch.tensor(picture.weights).sum(-1), torch.ones(2, 4))
    assert_close(cross.layers[-1].weights, picture.weights)
    assert list(encoder.queries) == list(encoder.keys) == list(picture.keys)
    # A decoder reads what it has written, and never ahead.
    assert list(decoder.queries) == ["<bos>", "一", "只", "猫"]
    assert all(not np.triu(layer.weights, 1).any() for layer in decoder.layers)
    # Of a packed batch, the first pair alone.
    packed, *_ = learned.pictures(translation_batch(learned, [PAIRS]))
    assert packed.weights.shape == picture.weights.shape
    assert_close(packed.weights, picture.weights)


def test_without_a_translation_the_reference_is_aligned():
    task = translation(max_extra_tokens=2).eval()
    batch = translation_batch(task)
    task._decode = lambda *_: [""]
    picture, *_ = task.pictures(batch)
    assert list(picture.queries) == [*PAIRS[0][1], "<eos>"]
    assert "reference" in picture.caption


def test_a_decoder_alone_translates_and_shows_the_same_pictures():
    task = translation(architecture="decoder-only", label_smoothing=0.0)
    batch = translation_batch(task)
    assert memorise(task, batch) < 0.05
    sources, targets = zip(*PAIRS, strict=True)
    assert tuple(task.translate(sources)) == tuple(task.translate(sources, batch_size=2)) == targets
    alignment, cross, encoder, decoder, _ = task.pictures(batch)
    assert alignment.weights.shape == (BACKBONE.heads, len("一只猫") + 1, len("a cat") + 1)
    assert_close(cross.layers[-1].weights, alignment.weights)
    # A word looks at the source and at what was written: together that is all.
    looked = cross.layers[-1].weights.sum(-1) + decoder.layers[-1].weights.sum(-1)
    assert_close(torch.tensor(looked), torch.ones(2, 4))
    assert_close(torch.tensor(encoder.layers[-1].weights).sum(-1), torch.ones(2, 6))


def test_a_decoder_alone_needs_room_for_both():
    with pytest.raises(ValueError, match="longest sequence has 40 tokens, the model has 30"):
        translation(
            architecture="decoder-only", backbone=dataclasses.replace(BACKBONE, max_length=30)
        )
    task = translation(architecture="decoder-only").eval()
    with pytest.raises(ValueError, match="longer than the model's 32 positions"):
        list(task.translate(["a " * 60]))
    assert len(list(task.translate(["a " * 60], truncate=True))) == 1


def test_a_decoder_alone_gives_each_text_the_room_that_it_leaves():
    task = translation(architecture="decoder-only", max_extra_tokens=50).eval()
    texts = ["a cat", "no " * 9, "two dogs bark"]
    apart = [next(task.translate([text])) for text in texts]
    assert list(task.translate(texts)) == apart
    assert len({len(one) for one in apart}) == 3  # none of them ends by itself


def test_a_decoder_alone_is_a_transformer():
    backbone = dataclasses.replace(BACKBONE, network="lstm")
    with pytest.raises(ValueError, match="a decoder alone is a Transformer: lstm would carry"):
        translation(architecture="decoder-only", backbone=backbone)


def test_notes_say_what_the_figures_mean():
    notes = translation().notes()
    assert notes["parameters"] == sum(p.numel() for p in translation().parameters())
    assert notes["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:")
    assert notes["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_texts_too_long_are_refused_or_cut_and_counted():
    task = translation().eval()
    texts = ["a cat", "no " * 40, "a " * 60]
    with pytest.raises(
        ValueError, match=r"longer than the model's 64 positions, the longest with 121 tokens"
    ):
        list(task.translate(texts))
    assert len(list(task.translate(texts, truncate=True))) == 3
    assert task.truncated == 2


def test_vocabularies_that_cannot_be_tied():
    with pytest.raises(ValueError, match="shared_vocabulary"):
        translation(tie="all")
