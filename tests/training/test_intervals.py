"""A run shorter than its interval between validations is validated at its end, wherever that is."""

from collections.abc import Iterator

import pytest
from lightning.pytorch.callbacks import LambdaCallback
from small_tasks import loader, quiet_trainer, text_batch, text_classification
from torch.utils.data import DataLoader, IterableDataset

from tfzoo.training.intervals import ValidateAtEnd, set_intervals, validates_early


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
        ({"max_steps": 5, "accumulate_grad_batches": 3, "streams": True}, 5),
        ({"max_epochs": 2, "streams": True}, 10),
        ({"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1}, 15),
        ({"max_steps": 9, "limit_train_batches": 3, "accumulate_grad_batches": 2}, 9),
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


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 3}, [3]),
        ({"max_steps": 1, "accumulate_grad_batches": 8}, [1]),
        ({"max_steps": 2, "accumulate_grad_batches": 3}, [2]),
        ({"max_steps": 7}, [5, 7]),
        ({"max_steps": 3, "check_val_every_n_epoch": 2}, []),
        ({"max_steps": 3, "limit_val_batches": 0}, []),
    ],
    ids=str,
)
def test_where_each_epoch_counts_anew_an_interval_longer_than_the_run_is_no_mistake(
    settings, steps
):
    task, validated = text_classification(), []
    note = LambdaCallback(on_validation_end=lambda t, _: validated.append(t.global_step))
    settings = {"val_check_interval": 100, "num_sanity_val_steps": 0, **settings}
    trainer = quiet_trainer(callbacks=[ValidateAtEnd(), note], **settings)
    trainer.fit(task, *[loader([text_batch(task)] * 5)] * 2)
    assert validated == steps
    assert validates_early(trainer) == bool(steps)
    assert trainer.val_check_interval == 100


def test_a_longer_training_by_the_same_trainer_keeps_the_interval():
    task, validated = text_classification(), []
    note = LambdaCallback(on_validation_end=lambda t, _: validated.append(t.global_step))
    settings = {"val_check_interval": 6, "check_val_every_n_epoch": None, "max_steps": 3}
    trainer = quiet_trainer(callbacks=[ValidateAtEnd(), note], num_sanity_val_steps=0, **settings)
    for steps in (3, 12):
        trainer.fit_loop.epoch_loop.max_steps = steps
        trainer.fit(task, *[loader([text_batch(task)] * 5)] * 2)
    assert validated == [3, 6, 12]


def test_an_interval_may_be_a_time():
    task = text_classification()
    trainer = quiet_trainer(callbacks=[ValidateAtEnd()], val_check_interval="00:00:10:00", max_steps=2)  # fmt: skip
    set_intervals(trainer, None)
    trainer.fit(task, *[loader([text_batch(task)] * 5)] * 2)
    assert trainer.global_step == 2
