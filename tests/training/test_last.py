"""The newest checkpoints: saved by steps, minutes and validations, the last few kept."""

import pytest
from small_tasks import (
    loader,
    quiet_trainer,
    text_batch,
    text_classification,
)

from tfzoo.training.checkpoint import read_checkpoint
from tfzoo.training.last import Last


@pytest.mark.parametrize("interval", [1, 3, 100])
def test_the_last_state_is_kept_though_no_metric_is_asked(interval, tmp_path):
    task = text_classification()
    batches = loader([text_batch(task)] * 5)
    settings = {"val_check_interval": interval, "check_val_every_n_epoch": None}
    trainer = quiet_trainer(
        max_steps=7, callbacks=[Last(tmp_path)], enable_checkpointing=True, **settings
    )
    trainer.fit(task, batches, batches)
    kept = {1: [6, 7], 3: [6, 7], 100: [7]}[interval]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{n:08d}.ckpt" for n in kept]
    assert read_checkpoint(tmp_path / "step-00000007.ckpt")["global_step"] == 7


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"every_n_steps": 3, "keep": 9}, [3, 6, 7]),
        ({"every_minutes": 1e-9, "keep": 3}, [5, 6, 7]),
        ({"keep": 1}, [7]),
    ],
    ids=str,
)
def test_states_are_kept_by_steps_and_by_minutes(settings, kept, tmp_path):
    task = text_classification()
    batches = loader([text_batch(task)] * 5)
    last = Last(tmp_path, **settings)
    trainer = quiet_trainer(
        max_steps=7, callbacks=[last], enable_checkpointing=True, check_val_every_n_epoch=None
    )
    trainer.fit(task, batches)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{n:08d}.ckpt" for n in kept]
    with pytest.raises(ValueError, match="keep of Last must be above 0, not 0"):
        Last(keep=0)
