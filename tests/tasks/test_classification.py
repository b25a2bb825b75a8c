"""Classification: its loss under padding and packing, what training hides and mixes, exact averages."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_tasks import (
    BACKBONE,
    TEXTS,
    alone,
    image_batch,
    image_classification,
    measured,
    memorise,
    rows_shown,
    text_batch,
    text_classification,
)
from torch.testing import assert_close

from tfzoo.data.batching import ImageBatch
from tfzoo.data.tokenizer import CLS, UNK
from tfzoo.tasks.classification import CONFUSED

PACKED = [[TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[3]]]


def settled(task):
    """The task with an output layer that no longer starts at even odds, in evaluation."""
    torch.nn.init.normal_(task.network.output.weight)
    return task.eval()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "rows", [alone(TEXTS), PACKED, [TEXTS]], ids=["padded", "packed", "one row"]
)
@torch.inference_mode()
def test_loss_of_texts_is_the_sum_over_texts(rows, label_smoothing, pooling):
    task = settled(text_classification(label_smoothing=label_smoothing, pooling=pooling))
    loss, total = task.loss(text_batch(task, rows)), 0.0
    for text, label in TEXTS:
        odds = task.logits(text_batch(task, [[(text, label)]]))[0].log_softmax(-1)
        total -= float((1 - label_smoothing) * odds[label] + label_smoothing * odds.mean())
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert int(loss.count) == len(TEXTS)


def test_texts_can_be_memorised_and_read_again():
    task = text_classification()
    batch = text_batch(task, PACKED)
    assert memorise(task, batch) < 0.05
    names = task.facts.labels
    for found, (_, label) in zip(task.classify([t for t, _ in TEXTS]), TEXTS, strict=True):
        assert next(iter(found)) == names[label]
        assert set(found) == set(names)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert sum(found.values()) == pytest.approx(1)
    predicted = task.predict_step(batch, 0)
    assert [(row["text"], row["label"]) for row in predicted] == [
        (text, names[label]) for text, label in TEXTS
    ]


def test_images_can_be_memorised_and_read_again():
    task, batch = image_classification(), image_batch()
    assert memorise(task, batch) < 0.05
    assert [row["label"] for row in task.predict_step(batch, 0)] == ["zero", "one", "two"] * 2
    # As pictures, from which the input is made anew.
    pictures = [Image.fromarray((255 * task.picture(i)).astype(np.uint8)) for i in batch.images]
    assert [len(found) for found in task.classify(pictures, batch_size=4)] == [3] * 6


def tokens_fed(task, batch, times=50):
    """(times, B, T): what the network was given."""
    seen = []
    task.network.embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for _ in range(times):
        task.loss(batch)
    return torch.stack(seen)


def test_training_hides_tokens_but_never_the_class_token():
    task = text_classification(token_dropout=0.5).train()
    batch = text_batch(task, PACKED)
    fed = tokens_fed(task, batch)
    hidden = fed != batch.tokens
    assert (fed[hidden] == UNK).all()
    assert not hidden[:, batch.tokens == CLS].any()
    assert not hidden[:, batch.layout.segments == 0].any()
    text = (batch.tokens != CLS) & (batch.layout.segments > 0)
    assert hidden[:, text].float().mean() == pytest.approx(0.5, abs=0.05)


def test_evaluation_hides_nothing():
    task = text_classification(token_dropout=0.5).eval()
    batch = text_batch(task)
    assert (tokens_fed(task, batch, 3) == batch.tokens).all()


def test_two_readings_are_drawn_together():
    plain, twice = (settled(text_classification(consistency=c)).train() for c in (0.0, 2.0))
    # Without dropout both readings are the same and the loss is the usual one.
    batch = text_batch(plain)
    twice.load_state_dict(plain.state_dict())
    assert_close(twice.loss(batch).total, plain.loss(batch).total)
    twice.token_dropout = 0.5
    seen = []
    twice.network.output.register_forward_hook(lambda _, __, logits: seen.append(logits))
    loss = twice.loss(batch)
    p, q = (logits.log_softmax(-1) for logits in seen)
    usual = (
        F.nll_loss(p, batch.labels, reduction="sum") + F.nll_loss(q, batch.labels, reduction="sum")
    ) / 2
    divergence = F.kl_div(p, q, reduction="sum", log_target=True) + F.kl_div(
        q, p, reduction="sum", log_target=True
    )
    assert_close(loss.total, usual + 2.0 * divergence / 2)
    assert int(loss.count) == len(TEXTS)


def test_masked_language_modelling_is_of_training_alone_and_may_find_nothing_masked():
    task = settled(text_classification(token_dropout=1e-9, masked_lm=0.3, consistency=1.0))
    batch = text_batch(task)
    usual = F.cross_entropy(task.logits(batch), batch.labels, reduction="sum")
    assert_close(task.eval().loss(batch).total, usual)
    assert_close(task.train().loss(batch).total, usual)


def test_hidden_tokens_are_to_be_named():
    task = settled(text_classification(token_dropout=0.5, masked_lm=0.3)).train()
    batch = text_batch(task, PACKED)
    seen, fed = [], []
    task.network.encoder.register_forward_hook(lambda _, __, x: seen.append(x))
    task.network.embedding.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    task.network.output.register_forward_hook(lambda _, __, logits: seen.append(logits))
    loss = task.loss(batch)
    x, logits = seen
    named = (x @ task.network.embedding.weight.T).log_softmax(-1)
    named = -named.gather(-1, batch.tokens[..., None])[..., 0][fed[0] != batch.tokens].mean()
    texts = len(batch.labels)
    usual = F.cross_entropy(logits, batch.labels, reduction="sum")
    assert_close(loss.total, usual + 0.3 * texts * named)
    assert int(loss.count) == texts
    with pytest.raises(ValueError, match="set token_dropout above 0"):
        text_classification(masked_lm=0.3)


@pytest.mark.parametrize("settings", [{"mixup": 0.8}, {"cutmix": 1.0}], ids=str)
def test_images_are_mixed_with_their_labels_in_training_alone(settings):
    np.random.seed(0)
    task = settled(image_classification(label_smoothing=0.1, **settings))
    images, labels = vars(image_batch()).values()
    usual = task.loss(image_batch()).total
    seen = []
    hook = task.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss = task.train().loss(image_batch())
    hook.remove()
    (mixed,) = seen
    if "mixup" in settings:
        share = ((mixed - images.flip(0)) / (images - images.flip(0))).median()
        assert_close(mixed, share * images + (1 - share) * images.flip(0))
    else:
        share = (mixed == images).float().mean()
        assert ((mixed == images) | (mixed == images.flip(0))).all()
    assert 0 < share < 1
    # A label has the share that its image has.
    smooth = F.one_hot(labels, 3) * 0.9 + 0.1 / 3
    targets = share * smooth + (1 - share) * smooth.flip(0)
    assert_close(loss.total, F.cross_entropy(task.network(mixed), targets, reduction="sum"))
    assert int(loss.count) == 6
    assert_close(task.eval().loss(image_batch()).total, usual)


def test_a_batch_that_cannot_be_paired_stays_as_it_is():
    task, batch = settled(image_classification(mixup=1.0)).train(), image_batch(5)
    expected = F.cross_entropy(task.network(batch.images), batch.labels, reduction="sum")
    assert_close(task.loss(batch).total, expected)


def test_mixing_leaves_the_batch_of_the_data_alone():
    task, batch = image_classification(mixup=1.0).train(), image_batch()
    task.loss(batch)
    assert_close(batch.images, image_batch().images)


@pytest.mark.parametrize("stage", ["validate", "test"])
@torch.inference_mode()
def test_averages_are_exact_over_unequal_batches(stage):
    task, whole = settled(image_classification(label_smoothing=0.1)), image_batch(7)
    parts = [ImageBatch(whole.images[s], whole.labels[s]) for s in (slice(5), slice(5, 7))]
    found = measured(task, parts, stage)
    prefix = {"validate": "val", "test": "test"}[stage]
    logits = task.network(whole.images)
    read = logits.argmax(-1)
    assert found[f"{prefix}/loss"] == pytest.approx(float(F.cross_entropy(logits, whole.labels)))
    assert found[f"{prefix}/accuracy"] == pytest.approx(
        float((read == whole.labels).float().mean())
    )
    f1 = []
    for k in range(3):
        right = int(((read == k) & (whole.labels == k)).sum())
        together = int((read == k).sum() + (whole.labels == k).sum())
        f1.append(2 * right / together if together else 0)
    assert found[f"{prefix}/f1"] == pytest.approx(sum(f1) / 3, abs=1e-5)


def test_rows_are_the_misread():
    task = settled(image_classification())
    batch = image_batch()
    (rows,) = rows_shown(task, [batch])
    with torch.inference_mode():
        odds = task.network(batch.images).softmax(-1)
    wrong = [i for i in range(6) if int(odds[i].argmax()) != int(batch.labels[i])]
    assert len(rows) == len(wrong) > 0
    for row, i in zip(rows, wrong, strict=True):
        image, label, read, probability = row
        assert len(row) == len(task.columns)
        assert image.shape == (8, 8)
        assert 0 <= image.min() <= image.max() <= 1
        assert (label, read) == (
            task.facts.labels[batch.labels[i]],
            task.facts.labels[odds[i].argmax()],
        )
        assert probability == pytest.approx(float(odds[i].max()), abs=1e-3)


def test_pictures_of_texts():
    task = text_classification().eval()
    picture, lines, positions = task.pictures(text_batch(task, PACKED))
    length = len("good book") + 1
    assert picture.weights.shape == (BACKBONE.heads, length, length)
    assert list(picture.keys) == ["<cls>", "g", "o", "o", "d", "␣", "b", "o", "o", "k"]
    assert_close(torch.tensor(picture.weights).sum(-1), torch.ones(BACKBONE.heads, length))
    assert [layer.name for layer in lines.layers] == ["layer 1", "layer 2"]
    assert_close(lines.layers[-1].weights, picture.weights)
    assert (picture.name, lines.name, positions.name) == (
        "attention",
        "attention-lines",
        "positions",
    )


def test_pictures_of_images():
    task = image_classification().eval()
    picture, positions = task.pictures(image_batch())
    assert [layer.weights.shape for layer in picture.layers] == [(BACKBONE.heads, 2, 2)] * 2
    assert positions.grid == 2
    assert picture.image.shape == (8, 8)
    assert picture.caption.startswith("zero, read as ")


@pytest.mark.parametrize("make", [text_classification, image_classification])
def test_confusion_counts_every_sample_of_a_validation_once(make):
    task = settled(make())
    batches = (
        [image_batch(6), image_batch(4)] if make is image_classification else [text_batch(task)]
    )
    right = sum(int((task.logits(b).argmax(-1) == b.labels).sum()) for b in batches)
    assert task.summary() == []
    for _ in range(2):  # not on top of the validation before
        measured(task, batches)
        (picture,) = task.summary()
        assert picture.counts.trace() == right
        true = torch.cat([b.labels for b in batches]).bincount(minlength=3)
        assert picture.counts.sum(1).tolist() == true.tolist()
        assert tuple(picture.classes) == task.facts.labels


def test_confusion_is_pooled_over_devices():
    task = settled(text_classification())
    task.confusion.distributed_available_fn = lambda: True
    task.confusion.dist_sync_fn = lambda ours, group: [
        ours,
        ours,
    ]  # another device with the same texts
    measured(task, [text_batch(task)])
    assert task.counts.sum() == 2 * len(TEXTS)


def test_of_very_many_classes_no_confusion_is_counted():
    labels = tuple(map(str, range(CONFUSED + 1)))
    facts = replace(image_classification().facts, labels=labels)
    task = image_classification(facts=facts).eval()
    measured(task, [image_batch()])
    assert task.summary() == []


def test_a_picture_is_the_image_before_it_was_normalised():
    task = image_classification()
    grey = torch.rand(1, 8, 8)
    assert_close(torch.tensor(task.picture((grey - 0.5) / 0.25)), grey[0])


def test_images_of_a_wrong_shape_are_refused():
    task = image_classification()
    with pytest.raises(ValueError, match="images must be 1 x 8 x 8, not 3 x 8 x 8"):
        task.loss(ImageBatch(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)))
    with pytest.raises(ValueError, match="3 does not divide 8; possible are 1, 2, 4, 8"):
        image_classification(patch=3)
    with pytest.raises(ValueError, match=r"65 tokens, more than the\s+model's 64 positions"):
        image_classification(patch=1)


def test_texts_too_long_are_refused_or_cut_and_counted():
    task = text_classification().eval()
    texts = ["good", "bad " * 30]
    with pytest.raises(
        ValueError, match=r"longer than the model's 64 positions, the longest with 121 tokens"
    ):
        list(task.classify(texts))
    assert len(list(task.classify(texts, truncate=True))) == 2
    assert task.truncated == 1
