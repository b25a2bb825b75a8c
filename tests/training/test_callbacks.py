"""What is shown after a validation: samples evenly drawn, pictures of a sample of middle size."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_tasks import (
    BACKBONE,
    PAIRS,
    TEXTS,
    alone,
    generation,
    image_batch,
    image_classification,
    language_batch,
    loader,
    quiet_trainer,
    text_batch,
    text_classification,
    translation,
    translation_batch,
)

from tfzoo.tracking.image_pictures import ImageGrid
from tfzoo.training import callbacks
from tfzoo.training.callbacks import Show


def shown(task, batches, folder, **settings):
    """The files of figures/ after a validation."""
    trainer = quiet_trainer(callbacks=[Show(**settings)], default_root_dir=folder)
    trainer.validate(task, loader(batches), verbose=False)
    return {file.name: file for file in (folder / "figures").iterdir()}


def test_translations_are_shown(tmp_path):
    task = translation(max_extra_tokens=2)
    batches = [translation_batch(task, alone(part)) for part in (PAIRS[:2], PAIRS[2:])]
    files = shown(task, batches, tmp_path)
    assert set(files) == {
        "samples-step000000.md",
        "alignment-step000000.png",
        "attention-cross-step000000.png",
        "attention-encoder-step000000.png",
        "attention-decoder-step000000.png",
        "positions.png",  # sinusoidal, the same at every step
    }
    table = files["samples-step000000.md"].read_text(encoding="utf-8").splitlines()
    assert table[0] == "| source | reference | translation |"
    assert [line.split(" | ")[1] for line in table[2:]] == [target for _, target in PAIRS]
    with Image.open(files["alignment-step000000.png"]) as picture:
        assert np.asarray(picture).std() > 1


def test_misread_texts_are_shown(tmp_path):
    task = text_classification()
    files = shown(task, [text_batch(task)], tmp_path)
    table = files["samples-step000000.md"].read_text(encoding="utf-8").splitlines()
    assert table[0] == "| text | label | read as | probability |"
    # At even odds all are read as the first class.
    wrong = [text for text, label in TEXTS if label]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == wrong


def test_misread_images_are_shown(tmp_path):
    files = shown(image_classification(), [image_batch()], tmp_path)
    assert set(files) == {
        "misread-step000000.png",
        "attention-step000000.png",
        "confusion-step000000.png",
        "positions.png",
    }


def test_generated_text_is_shown(tmp_path):
    task = generation()
    files = shown(task, [language_batch(task)], tmp_path)
    assert set(files) == {
        "samples-step000000.md",
        "attention-step000000.png",
        "attention-lines-step000000.png",
        "positions.png",
    }
    assert len(files["samples-step000000.md"].read_text(encoding="utf-8").splitlines()) == 2 + 4


def gather(show: Show, batches, counts) -> None:
    """Show each (rows, batch), of which there are as many as counts says."""
    trainer = SimpleNamespace(num_val_batches=counts)
    for index, (rows, batch) in enumerate(batches):
        show.on_validation_batch_end(trainer, None, {"rows": rows}, batch, index)


def drawn(count: int, limit: int) -> list[int]:
    show = Show(limit)
    starts = range(0, count, 7)
    rows = [[[i] for i in range(start, min(start + 7, count))] for start in starts]
    gather(show, zip(rows, starts, strict=True), [len(starts)])
    return [row[0] for row in show.rows]


def test_rows_are_drawn_evenly_and_the_same_each_time():
    assert drawn(10, 16) == list(range(10))
    rows = drawn(1000, 16)
    assert rows == drawn(1000, 16)
    assert len(set(rows)) == 16
    assert 300 < np.mean(rows) < 700


def test_the_picture_is_of_a_batch_in_the_middle():
    show = Show()
    gather(show, [([], batch) for batch in "abcde"], [5])
    assert show.batch == "c"
    # A stream does not know how many there are.
    show = Show()
    gather(show, [([], batch) for batch in "abcde"], [float("inf")])
    assert show.batch == "a"


def test_drawing_keeps_to_its_share_of_validation(tmp_path, monkeypatch):
    """Pictures come first and last, and between them where validation has taken long enough; samples always."""
    now = iter(range(10**6))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(now))  # each look a second later
    task = generation()
    task.samples = lambda: [["a", "b"]]
    task.pictures = lambda batch: [ImageGrid("attention", [np.zeros((2, 2))], ["x"])]
    batches = loader([language_batch(task)] * 8)
    drawn = {}
    for share in (0.0, 1e-9, 1e9):
        folder = tmp_path / str(share)
        settings = {"max_steps": 8, "val_check_interval": 2, "limit_val_batches": 1}
        trainer = quiet_trainer(callbacks=[Show(share=share)], default_root_dir=folder, **settings)
        trainer.fit(task, batches, batches)
        names = {file.name for file in (folder / "figures").iterdir()}
        assert share > 0 or not any(name.endswith(".png") for name in names)
        drawn[share] = {name for name in names if name.startswith("attention-step")}
        assert {f"samples-step{step:06d}.md" for step in (2, 4, 6, 8)} <= names
    ends = {"attention-step000002.png", "attention-step000008.png"}
    assert drawn[0.0] == set()
    assert drawn[1e-9] == ends
    assert drawn[1e9] == ends | {"attention-step000004.png", "attention-step000006.png"}


@pytest.mark.slow
def test_drawing_changes_no_training(tmp_path):
    """Weights after steps with pictures between them are those of the same steps without."""
    weights = []
    for number, shown_by in enumerate(([Show(share=1e9)], [])):
        task = generation(backbone=replace(BACKBONE, dropout=0.3))
        torch.manual_seed(1)
        settings = {"max_steps": 2, "val_check_interval": 1, "limit_val_batches": 1}
        trainer = quiet_trainer(
            callbacks=shown_by, default_root_dir=tmp_path / str(number), **settings
        )
        batches = loader([language_batch(task)] * 4)
        trainer.fit(task, batches, batches)
        weights.append(task.state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_picture_that_cannot_be_drawn_costs_no_training(tmp_path, monkeypatch):
    def broken(self):
        raise IndexError("no such head")

    monkeypatch.setattr("tfzoo.tracking.attention_pictures.LinesPicture.draw", broken)
    monkeypatch.setattr("tfzoo.training.callbacks.Show._draw_curves", lambda *_: None)
    task = generation()
    trainer = quiet_trainer(
        callbacks=[Show()], default_root_dir=tmp_path, max_steps=1, limit_val_batches=1
    )
    batches = loader([language_batch(task)])
    with pytest.warns(UserWarning, match="could not be drawn: IndexError: no such head"):
        trainer.fit(task, batches, batches)
    assert trainer.global_step == 1


def test_nothing_is_shown_while_checking_sanity_or_on_other_ranks(tmp_path):
    for state in ({"sanity_checking": True}, {"is_global_zero": False}):
        show = Show()
        gather(show, [([["a", "b"]], "batch")], [1])
        usual = {"sanity_checking": False, "is_global_zero": True, "default_root_dir": tmp_path}
        show.on_validation_epoch_end(SimpleNamespace(**usual | state), None)
        assert show.rows == []
    assert not list(tmp_path.iterdir())
