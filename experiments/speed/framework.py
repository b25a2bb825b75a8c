"""What `tfzoo fit` costs over a bare loop: of one training, each step beside one of a loop without a framework.

The bare loop has the same network, loader, optimiser and clipping, and nothing else. Its step follows every one of the
training's, so that both meet the same machine. A training's step is all that is between two of the loop's: loading,
moving, logging, callbacks.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from contest import wait
from lightning import Callback
from torch.nn.utils import clip_grad_norm_

from tfzoo.cli import main

FEW = 5
"""The first steps, in which files are opened and memory is taken, are left out."""


class Beside(Callback):
    """Does a step of the bare loop after every one of the training's."""

    ours: list[float]
    bare: list[float]
    latest: Beside

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        type(self).latest = self
        self.ours, self.bare = [], []
        self.task = pl_module.anew()
        self.task.load_state_dict(pl_module.state_dict())
        self.task.to(pl_module.device).train()
        (groups,) = (optimizer.param_groups for optimizer in trainer.optimizers)
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        here = dict(self.task.named_parameters())
        copied = [
            group | {"params": [here[names[id(parameter)]] for parameter in group["params"]]}
            for group in groups
        ]
        self.optimizer = type(trainer.optimizers[0])(copied)
        self.batches = self.endless(trainer.datamodule)
        self.since = time.perf_counter()

    @staticmethod
    def endless(data: Any) -> Any:
        while True:
            yield from data.train_dataloader()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        wait(pl_module.device)
        self.ours.append(time.perf_counter() - self.since)
        began = time.perf_counter()
        self.step(trainer)
        wait(pl_module.device)
        self.bare.append(time.perf_counter() - began)
        self.since = time.perf_counter()

    def step(self, trainer: Any) -> None:
        batch = trainer.strategy.batch_to_device(next(self.batches))
        with trainer.precision_plugin.forward_context():
            loss = self.task.loss(batch).mean
        loss.backward()
        clip_grad_norm_(self.task.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def share(flags: list[str], steps: int) -> dict[str, Any]:
    """Milliseconds a step of both, and what the training's take more, with its standard error."""
    with tempfile.TemporaryDirectory() as runs:
        code = main(
            [
                "fit",
                *flags,
                f"--runs={runs}",
                f"--trainer.max_steps={steps + FEW}",
                "--trainer.limit_val_batches=0",
                "--trainer.enable_progress_bar=false",
                '--trainer.callbacks=[{"class_path": "framework.Beside"}]',
            ]
        )
    assert code == 0, "the training failed"
    ours, bare = Beside.latest.ours[FEW:], Beside.latest.bare[FEW:]
    more = [a - b for a, b in zip(ours, bare, strict=True)]
    mean = statistics.fmean(bare)
    return {
        "steps": len(bare),
        "tfzoo_ms": 1e3 * statistics.fmean(ours),
        "bare_ms": 1e3 * mean,
        "share": statistics.fmean(more) / mean,
        "error": statistics.stdev(more) / len(more) ** 0.5 / mean,
        "median_share": statistics.median(more) / mean,
    }


def experiments(folder: Path, small: bool) -> dict[str, list[str]]:
    """Flags of a training of the GPT's and of the ViT's size, on contents made here."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?\n"))
    text = "".join(chance.choice(letters, 200_000))
    texts, pictures = folder / "text", folder / "images"
    texts.mkdir()
    for split in ("train", "validation"):
        (texts / f"{split}.txt").write_text(text)
        for label in range(10):
            place = pictures / split / str(label)
            place.mkdir(parents=True)
            for number in range(64):
                pixels = chance.integers(0, 256, (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    common = [f"--data.cache_dir={folder / 'cache'}", "--trainer.accelerator=auto"]

    def flags(task: str, where: Path, backbone: dict[str, Any], *more: str) -> list[str]:
        if small:
            backbone |= {"dim": 32, "depth": 2, "heads": 2}
        return [
            f"--model={task}",
            f"--data={task}Data",
            f"--data.path={where}",
            f"--model.backbone={json.dumps(backbone | {'dropout': 0.0, 'positions': 'learned'})}",
            *common,
            *more,
        ]

    gpt = {"dim": 384, "depth": 6, "heads": 6, "max_length": 256}
    vit = {"dim": 192, "depth": 6, "heads": 3, "max_length": 50}
    return {
        "GPT": flags(
            "Generation",
            texts,
            gpt,
            "--data.tokenizer=characters",
            "--data.context=256",
            "--data.batch_size=16",
        ),
        "ViT": flags(
            "ImageClassification", pictures, vit, "--model.patch=4", "--data.batch_size=64"
        ),
    }
