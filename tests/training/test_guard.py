"""A step that would destroy the weights is left out and told; a training of nothing else is stopped."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from small_tasks import loader, quiet_trainer, text_batch, text_classification

from tfzoo.cli import main
from tfzoo.tasks.task import Loss
from tfzoo.tracking.runs import numbered
from tfzoo.training.checkpoint import read_checkpoint
from tfzoo.training.guard import Guard
from tfzoo.training.last import Last

BAD = float("nan"), float("inf")


def trained(guard: Guard, factors: dict[int, float], steps: int = 8, **settings):
    """The task after a training whose loss is multiplied at some steps, and its weights after each step."""
    task = text_classification()
    loss, weights = task.loss, [[p.detach().clone() for p in task.parameters()]]

    def multiplied(batch):
        found = loss(batch)
        return Loss(found.total * factors.get(task.trainer.global_step, 1.0), found.count)

    task.loss = multiplied
    keep = LambdaCallback(
        on_train_batch_end=lambda *_: weights.append(
            [p.detach().clone() for p in task.parameters()]
        )
    )
    settings = {
        "max_steps": steps,
        "check_val_every_n_epoch": None,
        "val_check_interval": 10**9,
    } | settings
    trainer = quiet_trainer(callbacks=[guard, keep], **settings)
    trainer.fit(task, loader([text_batch(task)] * steps * 4))
    return task, weights, trainer


def same(ours, theirs) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("bad", BAD)
def test_a_single_spike_is_left_out_and_told(bad):
    with pytest.warns(UserWarning, match="step 3 is left out: loss (nan|inf), gradient norm nan"):
        _, weights, trainer = trained(Guard(), {3: bad})
    changed = [not same(*pair) for pair in pairwise(weights)]
    assert changed == [True, True, True, False, True, True, True, True]
    assert trainer.callback_metrics["train/skipped"] == 1
    # Nor do the optimiser's moments hold anything of it.
    moments = [s["exp_avg"] for s in trainer.optimizers[0].state.values()]
    assert all(m.isfinite().all() for m in moments)
    assert {int(s["step"]) for s in trainer.optimizers[0].state.values()} == {7}


def test_a_bad_batch_among_accumulated_ones_takes_its_step_with_it():
    with pytest.warns(UserWarning, match="step 2 is left out"):
        _, weights, _ = trained(Guard(), {2: BAD[0]}, steps=4, accumulate_grad_batches=2)
    assert not same(weights[0], weights[-1])
    assert all(w.isfinite().all() for w in weights[-1])


def test_so_many_in_a_row_stop_the_training():
    factors = dict.fromkeys(range(2, 99), BAD[0])
    told = r"3 steps in a row .* step 4"
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError, match=told):
        trained(Guard(patience=3), factors)
    # Not so many that are no row.
    with pytest.warns(UserWarning, match="left out"):
        _, _, trainer = trained(Guard(patience=3), dict.fromkeys((1, 2, 4, 5, 7), BAD[0]))
    assert trainer.callback_metrics["train/skipped"] == 5


def test_a_finite_spike_is_left_out_where_it_is_asked():
    with pytest.warns(UserWarning, match="step 6 is left out: loss"):
        _, weights, _ = trained(Guard(spike=20, memory=4), {6: 1e4})
    assert same(weights[6], weights[7])
    _, weights, _ = trained(Guard(), {6: 1e4})
    assert not same(weights[6], weights[7])


def test_what_it_remembers_goes_on():
    guard, again = Guard(spike=20), Guard(spike=20)
    guard.skipped, guard.row, guard.seen, guard.mean = 3, 2, 70, 0.5
    again.load_state_dict(guard.state_dict())
    assert vars(again) == vars(guard)


@pytest.mark.parametrize("argument", ["patience", "spike", "memory"])
def test_what_makes_no_sense_is_named(argument):
    with pytest.raises(ValueError, match=f"{argument} of Guard must be at least 1, not 0"):
        Guard(**{argument: 0})


def test_nothing_is_saved_after_a_step_that_could_not_be_taken(tmp_path):
    # The weights themselves may be the cause, and good checkpoints would go for bad ones.
    task = text_classification()
    loss = task.loss

    def broken(batch):
        found = loss(batch)
        return Loss(found.total * (BAD[0] if task.trainer.global_step >= 3 else 1), found.count)

    task.loss = broken
    callbacks = [Guard(patience=4), Last(tmp_path, every_n_steps=1)]
    trainer = quiet_trainer(callbacks=callbacks, max_steps=20, enable_checkpointing=True)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="4 steps in a row"),
    ):
        trainer.fit(task, loader([text_batch(task)] * 20))
    assert [p.name for p in numbered(tmp_path)] == ["step-00000003.ckpt", "step-00000002.ckpt"]
    weights = read_checkpoint(tmp_path / "step-00000003.ckpt")["state_dict"].values()
    assert all(w.isfinite().all() for w in weights)


def half_precision(scale: float, norm: float, guard: Guard) -> torch.nn.Parameter:
    """The parameter after a step under a scaler, its gradient of the norm given."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([norm])
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = SimpleNamespace(get_scale=lambda: scale)
    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=scaler), global_step=1, default_root_dir="."
    )
    task = SimpleNamespace(step_mean=SimpleNamespace(latest=torch.tensor(1.0)), log=lambda *_: None)
    guard.on_before_optimizer_step(trainer, task, optimizer)
    return weight


def test_a_scaler_tries_scales_undisturbed_until_none_is_left():
    guard = Guard(patience=2, spike=2, memory=1)
    guard.row, guard.seen, guard.mean = 1, 9, 0.1
    for norm in (float("inf"), float("nan")):
        assert half_precision(2.0**16, norm, guard).grad is not None
    assert (guard.skipped, guard.row) == (0, 1)
    with pytest.raises(ValueError, match="2 steps in a row"):
        half_precision(0.5, float("inf"), guard)


def test_fused_optimisers_of_scaled_gradients_are_refused():
    fused = SimpleNamespace(_step_supports_amp_scaling=True)
    for scaler, refused in ((object(), True), (None, False)):
        plugin = SimpleNamespace(scaler=scaler)
        trainer = SimpleNamespace(optimizers=[fused], precision_plugin=plugin)
        if refused:
            with pytest.raises(ValueError, match="set the optimizer's fused to false"):
                Guard().on_train_start(trainer, None)
        else:
            Guard().on_train_start(trainer, None)


@pytest.mark.slow
def test_a_training_that_cannot_go_on_ends_in_one_line(experiment, tmp_path, capsys):
    wild = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e38"]  # survived by none
    flags = ["--trainer.max_steps=99", "--trainer.gradient_clip_val=0", f"--runs={tmp_path}"]
    assert main(["fit", "-c", str(experiment("Generation")), *wild, *flags]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("tfzoo: error: 10 steps in a row could not be taken")
    (run,) = (tmp_path / "generation").iterdir()
    saved = any((run / "checkpoints").glob("step-*.ckpt"))
    assert (f"tfzoo resume {run} goes on from" in told) == saved  # no advice that cannot be taken
