"""On GPUs: two of them, or one alone where there is one, learn under DDP and FSDP2 what one does without a strategy.

With accumulation, recomputed and compiled blocks, in bfloat16 and in float32. What processors do of this is in test_devices.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_devices import STEPS, TASKS, fit, logged

GPUS = torch.cuda.device_count()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not GPUS, reason="needs CUDA"),
]
TOLERANCES = {"32-true": 1e-4, "bf16-mixed": 3e-2}
"""Of a loss. In bfloat16 sums in another order round to another eighth bit, and steps carry it on."""


def trained(
    config: Path, task: str, variant: str, strategy: str, precision: str, runs: Path, *more: str
) -> list[float]:
    """The losses of a training by the real command, which starts its other processes itself."""
    devices = 1 if strategy == "one" else min(2, GPUS)
    here = ["--trainer.accelerator=gpu", f"--trainer.devices={devices}"]
    flags = [*fit(config, task, variant, strategy, runs), *here, f"--trainer.precision={precision}"]
    done = subprocess.run(
        [sys.executable, "-m", "tfzoo", *flags, *more], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return [row["train/loss"] for row in logged(runs / strategy / task / variant, "train/loss")]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("task", TASKS)
def test_whatever_the_strategy_the_same_is_learned(task, precision, experiment, tmp_path):
    one, *others = (
        trained(experiment(task), task, "all", strategy, precision, tmp_path)
        for strategy in ("one", "ddp", "fsdp2")
    )
    assert len(one) == STEPS
    assert one[0] - one[-1] > 1e-3  # something was learned
    for other in others:
        assert other == pytest.approx(one, rel=TOLERANCES[precision])


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("network", ["rnn", "lstm-attention"])
def test_recurrent_networks_learn_what_they_learn_on_a_processor(network, precision, experiment, tmp_path):  # fmt: skip
    losses = [
        trained(
            *(experiment("Translation"), "Translation", "checkpointed", "one"),
            *(precision if place == "gpu" else "32-true", tmp_path / place),
            *(f"--model.backbone.network={network}", f"--trainer.accelerator={place}"),
        )
        for place in ("cpu", "gpu")
    ]
    assert losses[0][0] - losses[0][-1] > 1e-3
    assert losses[1] == pytest.approx(losses[0], rel=max(1e-3, TOLERANCES[precision]))
