"""Every task with a recurrent network: it learns, goes through a checkpoint, and shows what there is to see."""

from dataclasses import replace

import pytest
import torch
from small_tasks import (
    BACKBONE,
    PAIRS,
    SPEECH,
    every_task,
    generation,
    language_batch,
    memorise,
    text_classification,
    translation,
    translation_batch,
)

from tfzoo.models import Greedy
from tfzoo.tasks import Translation
from tfzoo.tasks.classification import Classification

NETWORKS = ["rnn", "rnn-attention", "lstm", "lstm-attention"]


def of(network: str):
    return replace(BACKBONE, network=network)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_of_every_task_moves_every_weight(network):
    for task, batch in every_task(network):
        torch.nn.init.normal_(task.network.output.weight, std=0.1)  # a classifier's is zero
        task.train().loss(batch).mean.backward()
        still = [name for name, p in task.named_parameters() if not p.grad.any()]
        # At the first token, which a class is read from, whoever comes from the left has seen nothing else.
        ahead = "network.encoder.layers.1.ahead.weight_hh_l0"
        assert still == ([ahead] if isinstance(task, Classification) else [])


@pytest.mark.parametrize(
    "network",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS[:-1]), "lstm-attention"],
)
def test_a_batch_of_pairs_is_memorised_and_said_again(network):
    task = translation(backbone=of(network), label_smoothing=0.0)
    assert memorise(task, translation_batch(task), 0.05) < 0.05
    sources, targets = zip(*PAIRS, strict=True)
    assert tuple(task.translate(sources)) == targets
    task.beam = type(task.beam)(1)
    assert tuple(task.translate(sources, batch_size=3)) == targets


@pytest.mark.slow
def test_a_text_is_memorised_and_said_again():
    task = generation(backbone=of("lstm"))
    assert memorise(task, language_batch(task)) < 0.05
    # From prompts of several lengths, padded.
    prompts = [SPEECH[:7], SPEECH[:11]]
    assert task.generate(prompts, 8, Greedy()) == [SPEECH[7:15], SPEECH[11:19]]


@pytest.mark.slow
def test_classes_are_memorised():
    for (task, batch), _ in zip(list(every_task("lstm"))[1::2], range(2), strict=True):
        assert memorise(task, batch, 0.05) < 0.05


@pytest.mark.parametrize("network", ["lstm", "lstm-attention"])
def test_pictures_are_of_what_there_is(network):
    found = {}
    for task, batch in every_task(network):
        found[type(task).__name__] = [picture.name for picture in task.eval().pictures(batch)]
    attention = ["alignment", "attention-cross"] if network == "lstm-attention" else []
    assert found.pop("Translation") == attention
    assert list(found.values()) == [[], [], []]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_checkpoint_is_all_it_takes(network, tmp_path):
    task = translation(backbone=of(network), max_extra_tokens=3).eval()
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    again = Translation.from_checkpoint(tmp_path / "a.ckpt")
    assert again.network.config == of(network)
    texts = [source for source, _ in PAIRS]
    assert list(again.translate(texts)) == list(task.translate(texts))


def test_a_checkpoint_from_before_there_was_a_choice_is_a_transformers(tmp_path):
    task = translation()
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    del checkpoint["tfzoo"]["settings"]["backbone"]["network"]
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert Translation.from_checkpoint(tmp_path / "a.ckpt").network.config == BACKBONE
    task.on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=r"backbone\.network transformer, the config says lstm"):
        translation(backbone=of("lstm")).on_load_checkpoint(checkpoint)


def test_weights_of_another_network_are_told_by_their_setting():
    task = translation(backbone=of("lstm"))
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=r"trained with backbone\.network lstm, the config says"):
        translation().on_load_checkpoint(checkpoint)


def test_attention_without_a_source_is_refused():
    for make in (generation, text_classification):
        with pytest.raises(ValueError, match=r"set backbone\.network to lstm$"):
            make(backbone=of("lstm-attention"))
