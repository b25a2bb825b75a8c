"""What every task keeps in a checkpoint, gets back from it, and refuses."""

import os
import pickle
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from small_tasks import (
    BACKBONE,
    PAIRS,
    TEXTS,
    characters,
    every_task,
    generation,
    image_batch,
    image_classification,
    text_batch,
    text_classification,
    translation,
    translation_batch,
)
from torch.testing import assert_close

import tfzoo
from tfzoo.backbone import TransformerConfig
from tfzoo.data.text_classification import TextFacts
from tfzoo.models import Greedy
from tfzoo.tasks import Generation, ImageClassification, Task, TextClassification, Translation
from tfzoo.tasks.classification import Classification
from tfzoo.training.checkpoint import WholeCheckpointIO


def saved(made: Task, path, **changes):
    """The path of a checkpoint as a trainer writes it, entries of ours changed."""
    checkpoint = {"state_dict": made.state_dict()}
    made.on_save_checkpoint(checkpoint)
    checkpoint["tfzoo"].update(changes)
    WholeCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def shaken(task: Task) -> Task:
    """Random weights everywhere, also where the network begins with zeros."""
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return task.eval()


@torch.inference_mode()
def outputs(task: Task):
    if isinstance(task, Translation):
        batch = translation_batch(task)
        return task._logits(batch), list(task.translate([s for s, _ in PAIRS]))
    if isinstance(task, TextClassification):
        return task.logits(text_batch(task)), list(task.classify([text for text, _ in TEXTS]))
    if isinstance(task, ImageClassification):
        return task.logits(image_batch()), task.predict_step(image_batch(), 0)
    return task.generate(["ROMEO", "light"], 12, Greedy()), None


TASKS = {
    "translation": translation,
    "text classification": text_classification,
    "image classification": image_classification,
    "generation": generation,
}


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_a_checkpoint_is_all_it_takes(make, tmp_path):
    task = shaken(make())
    path = saved(task, tmp_path / "best.ckpt")
    again = type(task).from_checkpoint(path)
    assert not again.training
    assert again.settings == task.settings
    assert again.facts == task.facts
    for ours, theirs in zip(outputs(task), outputs(again), strict=True):
        assert_close(ours, theirs) if isinstance(ours, torch.Tensor) else None
        assert isinstance(ours, torch.Tensor) or ours == theirs
    # By its base as well.
    assert type(Task.from_checkpoint(path)) is type(task)


def test_settings_that_are_no_defaults_come_back(tmp_path):
    backbone = replace(BACKBONE, norm="rms", activation="swiglu", positions="rotary", kv_heads=1)
    task = translation(backbone=backbone, tie="none", beam_size=2, label_smoothing=0.3)
    again = Translation.from_checkpoint(saved(task, tmp_path / "a.ckpt"))
    assert again.network.config == backbone
    assert (again.beam.size, again.label_smoothing) == (2, 0.3)


def test_a_checkpoint_of_another_task_is_refused(tmp_path):
    path = saved(generation(), tmp_path / "a.ckpt")
    with pytest.raises(
        ValueError, match=r"a\.ckpt is of task Generation; this needs Classification"
    ):
        Classification.from_checkpoint(path)


def test_a_checkpoint_does_not_choose_what_is_imported_or_built(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("import os\nos.environ['TRAPPED'] = '1'\nclass Task: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (
        "trap.Task",
        "os.system",
        "tfzoo.tasks.translation.x.Y",
        "tfzoo.tasks.trap.X",
        "X",
    ):
        path = saved(generation(), tmp_path / "a.ckpt", task=name)
        with pytest.raises(ValueError, match="is of task"):
            Task.from_checkpoint(path)
    assert "trap" not in sys.modules
    assert "TRAPPED" not in os.environ


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"backbone": {"dimm": 32}}},
        {"settings": {"unknown": 1}},
        {"settings": {"backbone": asdict(replace(BACKBONE, dim=64))}},
        {"facts": {"tokenizer": "{}", "context": 8, "density": {}}},
        {"facts": {}},
    ],
    ids=["backbone", "setting", "shapes", "tokenizer", "no facts"],
)
def test_what_does_not_fit_is_told_in_a_sentence(changes, tmp_path):
    path = saved(generation(), tmp_path / "a.ckpt", **changes)
    with pytest.raises(
        ValueError, match=f"a.ckpt was written by tfzoo {tfzoo.__version__} and cannot"
    ):
        Generation.from_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"tfzoo": 3}, {"tfzoo": {"task": "x"}}])
def test_foreign_checkpoints_are_refused(content, tmp_path):
    torch.save({"state_dict": {}, **content}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="not written by tfzoo"):
        Task.from_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="not written by tfzoo"):
        generation().on_load_checkpoint({"state_dict": {}, **content})


@pytest.mark.parametrize("device", ["nonsense", "meta:x"])
def test_a_device_that_is_none_is_told(device, tmp_path):
    path = saved(generation(), tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        Generation.from_checkpoint(path, device)


def loaded(task: Task, of: Task) -> None:
    """What a trainer does with a checkpoint that training goes on from."""
    checkpoint = {"state_dict": of.state_dict()}
    of.on_save_checkpoint(checkpoint)
    task.on_load_checkpoint(checkpoint)


def test_a_sharded_checkpoint_brings_its_weights_in_files_of_their_own():
    task, checkpoint = generation(), {}
    generation().on_save_checkpoint(checkpoint)
    task._trainer = SimpleNamespace(training=True)
    task.on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="holds weights alone"):
        task.on_load_checkpoint(checkpoint | {"state_dict": task.state_dict()})


def test_another_vocabulary_is_refused():
    facts = replace(translation().facts, target=characters("完全不同"))
    with pytest.raises(
        ValueError,
        match=r"the target vocabulary does not match the checkpoint's: 10 tokens here, 16 there",
    ):
        loaded(translation(facts=facts), translation())


def test_other_labels_are_refused():
    # The same names in another order are other labels.
    facts = replace(text_classification().facts, labels=("bad", "good", "so"))
    with pytest.raises(ValueError, match="bad, good, so here, good, bad, so there"):
        loaded(text_classification(facts=facts), text_classification())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"heads": 4}, "backbone.heads 2, the config says 4"),
        ({"norm_placement": "post"}, "backbone.norm_placement pre, the config says post"),
        ({"positions": "rotary"}, "backbone.positions sinusoidal, the config says rotary"),
        ({"dim": 64}, "backbone.dim 32, the config says 64"),
    ],
)
def test_another_backbone_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        loaded(generation(backbone=replace(BACKBONE, **change)), generation())


def test_what_the_weights_allow_may_change_when_training_goes_on():
    change = {"dropout": 0.2, "attention_dropout": 0.1, "max_length": 128}
    loaded(generation(backbone=replace(BACKBONE, **change), temperature=1.0), generation())


@pytest.mark.parametrize(
    ("make", "change", "told"),
    [
        (translation, {"tie": "none"}, "tie output, the config says none"),
        (generation, {"tie": False}, "tie True, the config says False"),
        (text_classification, {"pooling": "mean"}, "pooling cls, the config says mean"),
        (image_classification, {"patch": 2}, "patch 4, the config says 2"),
    ],
)
def test_another_network_around_the_backbone_is_refused(make, change, told):
    with pytest.raises(ValueError, match=told):
        loaded(make(**change), make())


def test_weights_that_do_not_fit_are_told():
    learned = replace(BACKBONE, positions="learned")
    with pytest.raises(ValueError, match=r"\(64, 32\) there and \(128, 32\) here"):
        loaded(generation(backbone=replace(learned, max_length=128)), generation(backbone=learned))


def test_a_task_wants_the_data_of_its_kind():
    facts = TextFacts(characters("a"), ("x", "y"), 3, False)
    with pytest.raises(
        ValueError, match="Generation needs data that gives LanguageFacts, not TextFacts"
    ):
        Generation(BACKBONE, facts=facts)
    with pytest.raises(ValueError, match="not NoneType"):
        Generation(BACKBONE)


def test_texts_of_the_data_must_fit_the_positions():
    facts = replace(text_classification().facts, longest=65)
    with pytest.raises(ValueError, match=r"65 tokens, the model has 64 positions: raise .* or cut"):
        text_classification(facts=facts)


def test_a_checkpoint_holds_tensors_and_plain_values_alone(tmp_path):
    for task, _ in every_task():
        with (saved(task, tmp_path / "a.ckpt")).open("rb") as file:
            torch.load(file, weights_only=True)
        assert pickle.loads(pickle.dumps(task.facts)) == task.facts


def test_settings_are_plain():
    assert generation().settings["backbone"] == asdict(BACKBONE)
    assert TransformerConfig(**generation().settings["backbone"]) == BACKBONE
