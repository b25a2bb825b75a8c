"""A run shorter than its interval between validations is validated at its end, wherever that is."""

import math
from collections.abc import Iterator

import pytest
from lightning.pytorch.callbacks import LambdaCallback
from small_tasks import loader, quiet_trainer, text_batch, text_classification
from torch.utils.data import DataLoader, IterableDataset

from tfzoo.training.intervals import ValidateAtEnd, batches_in_all, validates_early


class Stream(IterableDataset):
    """Batches whose number nobody knows."""

    def __init__(self, batches: list) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator:
        return iter(self.batches)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 3}, 3),
        ({"max_steps": 7, "streams": True}, 7),
        ({"max_steps": 5, "accumulate_grad_batches": 3}, 5),  # of an epoch's five batches, three and two
        ({"max_steps": 4, "accumulate_grad_batches": 8}, 4),  # an epoch each
        ({"max_steps": 9, "max_epochs": 1}, 5),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, 6),
    ],
    ids=str,
)  # fmt: skip
def test_a_run_shorter_than_its_interval_is_validated_once_at_its_end(settings, steps):
    task = text_classification()
    batches, validated = [text_batch(task)] * 5, []
    settings = dict(settings)
    streams = settings.pop("streams", False)
    training = DataLoader(Stream(batches), batch_size=None) if streams else loader(batches)
    note = LambdaCallback(on_validation_end=lambda t, _: validated.append(t.global_step))
    settings |= {"val_check_interval": 100, "check_val_every_n_epoch": None}
    trainer = quiet_trainer(callbacks=[ValidateAtEnd(), note], num_sanity_val_steps=0, **settings)
    trainer.fit(task, training, loader(batches))
    assert validated == [steps]
    assert trainer.global_step == steps
    assert validates_early(trainer)


@pytest.mark.parametrize(("interval", "steps"), [(1, [1, 2, 3]), (2, [2]), (3, [3]), (1.0, [])])
def test_every_other_run_is_validated_where_it_is_said(interval, steps):
    task, validated = text_classification(), []
    note = LambdaCallback(on_validation_end=lambda t, _: validated.append(t.global_step))
    settings = {"val_check_interval": interval, "max_steps": 3, "num_sanity_val_steps": 0}
    if isinstance(interval, int):
        settings["check_val_every_n_epoch"] = None
    trainer = quiet_trainer(callbacks=[ValidateAtEnd(), note], **settings)
    trainer.fit(task, *[loader([text_batch(task)] * 5)] * 2)
    assert validated == steps
    assert not validates_early(trainer)


def test_an_interval_longer_than_an_epoch_and_the_run_is_no_mistake():
    task, validated = text_classification(), []
    note = LambdaCallback(on_validation_end=lambda t, _: validated.append(t.global_step))
    settings = {"val_check_interval": 100, "max_steps": 3, "num_sanity_val_steps": 0}
    trainer = quiet_trainer(callbacks=[ValidateAtEnd(), note], **settings)
    trainer.fit(task, *[loader([text_batch(task)] * 5)] * 2)
    assert validated == [3]


@pytest.mark.parametrize(
    ("epoch", "accumulated", "steps", "epochs", "batches"),
    [
        (5, 1, 12, None, 12),
        (5, 3, 5, None, 13),
        (5, 8, 4, None, 20),
        (5, 3, 4, None, 10),
        (5, 1, -1, 3, 15),
        (5, 1, 12, 2, 10),
        (5, 1, -1, -1, math.inf),
        (math.inf, 2, 7, None, 14),
        (math.inf, 2, -1, 3, math.inf),
        (5, 1, 0, None, 0),
    ],
)
def test_batches_are_counted_to_the_nearest_end(epoch, accumulated, steps, epochs, batches):
    trainer = type("", (), {"num_training_batches": epoch, "accumulate_grad_batches": accumulated})
    trainer.max_steps, trainer.max_epochs = steps, epochs
    assert batches_in_all(trainer) == batches
