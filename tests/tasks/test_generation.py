"""Generation: loss of each token once, perplexities that say what they say, text from prompts."""

import math
from dataclasses import replace

import pytest
import torch
from small_tasks import (
    BACKBONE,
    SPEECH,
    generation,
    language_batch,
    loader,
    measured,
    memorise,
    quiet_trainer,
)
from torch.testing import assert_close

from tfzoo.models import Greedy, Sampling

LINES = ("ROMEO: But soft", "light", "what light through yonder window")


@torch.inference_mode()
def test_loss_is_the_sum_over_tokens_however_long_the_rows():
    task = generation().eval()
    loss, total, count = task.loss(language_batch(task, LINES)), 0.0, 0
    for line in LINES:
        ids = task.facts.tokenizer.encode(line)
        batch = language_batch(task, [line])
        odds = task.network(batch.tokens, batch.layout)[0].log_softmax(-1)
        total -= sum(float(row[label]) for row, label in zip(odds, ids[1:], strict=True))
        count += len(ids) - 1
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert int(loss.count) == count


@pytest.fixture(scope="module")
def learned():
    task = generation()
    assert memorise(task, language_batch(task)) < 0.05
    return task


def test_it_can_memorise_a_text_and_go_on_with_it(learned):
    (text,) = learned.generate(["ROMEO: But"], len(SPEECH) - 10, Greedy())
    assert "ROMEO: But" + text == SPEECH
    # Prompts of several lengths go on as each does alone; sharp sampling is greedy.
    prompts = ["ROMEO", "ROMEO: But soft, what", ""]
    together = learned.generate(prompts, 12, Greedy())
    assert together == [learned.generate([prompt], 12, Greedy())[0] for prompt in prompts]
    assert together[:2] == [": But soft, ", " light throu"]
    assert learned.generate(prompts[:2], 12, Sampling(0.01, seed=1)) == together[:2]


def test_a_seed_gives_the_same_text_again(learned):
    once, again, other = (
        learned.generate(["what"], 20, Sampling(3.0, seed=seed))[0] for seed in (1, 1, 2)
    )
    assert once == again
    assert once != other


def test_text_may_grow_past_the_positions(learned):
    (text,) = learned.generate([SPEECH], 3 * BACKBONE.max_length, Greedy())
    assert len(text) >= BACKBONE.max_length
    assert learned.generate([SPEECH * 3], 5, Greedy())


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_averages_are_exact_over_unequal_batches(stage):
    task = generation().eval()
    batches = [language_batch(task, LINES[:1]), language_batch(task, LINES[1:])]
    found = measured(task, batches, stage)
    prefix = {"validate": "val", "test": "test"}[stage]
    with torch.inference_mode():
        nats = float(task.loss(language_batch(task, LINES)).mean)
    assert found[f"{prefix}/loss"] == pytest.approx(nats, rel=1e-5)
    assert found[f"{prefix}/perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)
    # A token is a character here, and every fourth begins a word.
    assert found[f"{prefix}/bits_per_character"] == pytest.approx(nats / math.log(2), rel=1e-5)
    assert found[f"{prefix}/word_perplexity"] == pytest.approx(math.exp(4 * nats), rel=1e-4)
    # Nothing of the last epoch stays.
    assert measured(task, batches, stage) == found


def test_samples_and_pictures(learned):
    rows = learned.samples()
    assert [len(row) for row in rows] == [len(learned.columns)] * 4
    assert {row[0] for row in rows} == {learned.prompt}
    batch = language_batch(learned, [SPEECH, SPEECH])
    picture, lines, positions = learned.pictures(batch)
    assert (lines.name, positions.name) == ("attention-lines", "positions")
    assert_close(lines.layers[-1].weights, picture.weights)
    assert picture.weights.shape == (BACKBONE.heads, 32, 32)
    assert "".join(picture.keys) == SPEECH[:32].replace(" ", "␣")
    weights = torch.tensor(picture.weights)
    assert_close(weights.sum(-1), torch.ones(BACKBONE.heads, 32))
    assert (weights.triu(1) == 0).all()  # the future cannot be seen


def test_predictions_stand_beside_how_the_text_went_on(learned):
    ((row,),) = quiet_trainer().predict(learned, loader([language_batch(learned)]))
    half = (len(SPEECH) - 1) // 2
    assert row["prompt"] == SPEECH[:half]
    assert row["reference"] == SPEECH[half:-1]
    assert row["text"] == SPEECH[half : 2 * half]


def test_windows_longer_than_the_positions_are_refused():
    small = replace(BACKBONE, max_length=32)
    with pytest.raises(ValueError, match="64 tokens, the model has 32 positions"):
        generation(backbone=small)
