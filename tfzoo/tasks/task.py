"""What every task is: a network, a loss written once, an optimiser, and facts that travel in the checkpoint."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import AdamW, Optimizer

import tfzoo
from tfzoo.backbone import TransformerConfig
from tfzoo.data.facts import Facts
from tfzoo.layout import Layout
from tfzoo.tasks.looks import positions
from tfzoo.tasks.scores import AverageLoss
from tfzoo.tracking.figures import Picture
from tfzoo.training.chance import global_seed, reseed
from tfzoo.training.checkpoint import read_checkpoint
from tfzoo.training.optim import Constant, OptimizerFactory, Schedule, decay_groups, scheduled
from tfzoo.training.progress import share_anew
from tfzoo.training.sharding import gather, release, shard
from tfzoo.training.step_mean import StepMean

Row = list[Any]
"""One row of a table of samples: text, numbers or image arrays."""

FREE = {"dropout", "attention_dropout", "max_length"}
"""What of a backbone may change when training goes on, as far as the weights allow it."""


@dataclass(frozen=True)
class Loss:
    """A sum and what it is a sum over, so that averages are right whatever a batch holds.

    total: scalar, the sum of losses in nats.
    count: scalar, how many tokens, texts or images they are the losses of.
    """

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        return self.total / self.count.clamp(min=1)


class Task(LightningModule):
    """A task on the shared Transformer.

    A subclass builds `self.network` from its facts and settings, and writes `loss`; the rest has defaults.

    Args:
        facts: what the network must know of the data: vocabularies, class names. Never in a config; linked from the
            DataModule, and carried in the checkpoint.
        settings: the arguments that decide the network, as they came; carried in the checkpoint.
        optimizer: parameter groups to an optimiser; its weight decay spares biases and norms.
        schedule: the learning rate over time.

    Class attributes: `facts_class`, the facts it needs; `columns`, the names of what the rows
    are made of that `validation_step` returns as {"rows": [...]};
    `best`, the metric whose best checkpoint is kept; `counted`, what the counts of its losses are of: tokens, texts,
    images; `fixed`, settings beside the backbone without which weights mean nothing.
    """

    facts_class: ClassVar[type[Facts]]
    network: nn.Module
    columns: ClassVar[tuple[str, ...]] = ()
    best: ClassVar[tuple[str, Literal["min", "max"]]] = ("val/loss", "min")
    counted: ClassVar[str] = "samples"
    fixed: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        facts: Facts | None,
        settings: dict[str, Any],
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(facts, self.facts_class):
            raise ValueError(
                f"{type(self).__name__} needs data that gives {self.facts_class.__name__}, "
                f"not {type(facts).__name__}: choose the DataModule of this task"
            )
        self.facts = facts
        self.truncated = 0  # texts cut by `fitted`
        self.settings = {k: asdict(v) if is_dataclass(v) else v for k, v in settings.items()}  # type: ignore[arg-type]
        self.seed = global_seed()  # of dropout and whatever else a training step draws
        self.optimizer = optimizer or (lambda groups: AdamW(groups, lr=1e-3))
        self.schedule = schedule or Constant()
        self.step_mean = StepMean()
        self.gradient_norm: Tensor | None = None  # of this step, where it is known already
        self.average = AverageLoss()

    def loss(self, batch: Any) -> Loss:
        raise NotImplementedError

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        if self.seed is not None:
            done = self.trainer.fit_loop.epoch_loop.total_batch_idx
            reseed(self.seed, done, self.global_rank)

    def on_train_start(self) -> None:
        self.step_mean = StepMean()

    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = self.loss(batch)
        return self.step_mean.add(loss.total, loss.count, self._averaged())

    def on_after_backward(self) -> None:
        if not self.trainer.fit_loop._should_accumulate():
            loss = self.step_mean.close(self.parameters(), self._averaged())
            self.log("train/loss", loss, prog_bar=True)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        norm, self.gradient_norm = self.gradient_norm, None
        if norm is None or not gradient_clip_val or gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_grads_with_norm_(self.parameters(), gradient_clip_val, norm)

    def _averaged(self) -> int:
        """Over how many batches Lightning averages the gradients of a step, be there as many or not."""
        return self.trainer.accumulate_grad_batches * self.trainer.world_size

    def log_average(self, name: str, loss: Loss) -> None:
        """Log a loss whose average over the epoch counts every token or sample once, on any number of devices."""
        self.average.update(loss.total, loss.count)
        self.log(name, self.average, on_step=False, on_epoch=True, prog_bar=True)

    def check_length(self, longest: int, backbone: TransformerConfig) -> None:
        """Raises ValueError where the data holds a sequence longer than the model's positions."""
        if longest > backbone.max_length:
            raise ValueError(
                f"the data's longest sequence has {longest} tokens, the model has {backbone.max_length} positions: "
                f"raise backbone.max_length, or cut with data.max_length {backbone.max_length} and data.truncate true"
            )

    @property
    def text_positions(self) -> int:
        """How many tokens of a text that is to be used the network has positions for."""
        return self.settings["backbone"]["max_length"]

    def fitted(
        self, rows: Sequence[Sequence[int]], ending: Sequence[int] = (), truncate: bool = False
    ) -> list[list[int]]:
        """Token lists, each with `ending` behind it.

        Where one is longer than the model's positions, raises ValueError, or cuts it and counts it in
        `self.truncated`.
        """
        positions = self.text_positions
        room = positions - len(ending)
        over = [len(row) + len(ending) for row in rows if len(row) > room]
        if over and not truncate:
            raise ValueError(
                f"{len(over)} of {len(rows)} texts are longer than the model's {positions} positions, "
                f"the longest with {max(over)} tokens; --truncate cuts them"
            )
        self.truncated += len(over)
        return [[*row[:room], *ending] for row in rows]

    def padded(self, rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Layout]:
        """Token lists as tensors on this device: (B, T) and their layout."""
        longest = max(map(len, rows))
        tokens = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
        layout = Layout.padded(torch.tensor([len(row) for row in rows]), longest)
        return tokens.to(self.device), layout.to(self.device)

    @staticmethod
    def first_text(tokens: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
        """The first sequence of a batch (B, T) alone: (1, T') and its layout."""
        length = int((layout.segments[0] == 1).sum())
        return tokens[:1, :length], Layout.full(1, length, tokens.device)

    def notes(self) -> dict[str, Any]:
        """What a reader of the run should know beside its metrics."""
        return {"parameters": sum(p.numel() for p in self.parameters())}

    def pictures(self, batch: Any) -> list[Picture]:
        """What the network looks at in the first sample of the batch, and what its positions are to it."""
        return list(positions(self.network))

    def summary(self) -> list[Picture]:
        """Pictures of all that the validation that has just ended has read."""
        return []

    def samples(self) -> list[Row]:
        """Rows to show that come from no batch, as generated text does."""
        return []

    def anew(self) -> Self:
        """An untrained task of the same facts and settings."""
        return self._of(self.facts, self.settings)

    @classmethod
    def _of(cls, facts: Facts, settings: dict[str, Any]) -> Self:
        """The task of such settings as it keeps them, and a checkpoint carries them."""
        made: dict[str, Any] = dict(settings)
        if isinstance(made.get("backbone"), dict):
            made["backbone"] = TransformerConfig(**made["backbone"])
        return cls(facts=facts, **made)

    def configure_model(self) -> None:
        """Shares the network out where the strategy has a mesh of devices (FSDP2)."""
        if self.device_mesh is not None:
            shard(self.network, self.device_mesh["data_parallel"])

    def on_validation_start(self) -> None:
        gather(self.network)

    def on_validation_end(self) -> None:
        release(self.network)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(decay_groups(self))
        return scheduled(optimizer, self.schedule, self.trainer.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["tfzoo"] = {
            "version": tfzoo.__version__,
            "task": f"{type(self).__module__}.{type(self).__qualname__}",
            "settings": self.settings,
            "facts": self.facts.to_dict(),
            "seed": self.seed,
            "devices": self.trainer.world_size if self._trainer is not None else 1,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        carried = _carried(checkpoint)
        # A sharded checkpoint, a folder, brings weights and optimiser in files of their own.
        alone = "state_dict" in checkpoint and "optimizer_states" not in checkpoint
        if alone and self._trainer and self._trainer.training:
            raise ValueError(
                "the checkpoint holds weights alone, and training cannot go on from it: "
                "take a step-....ckpt of its run"
            )
        self.seed = carried.get("seed", self.seed)  # it goes on as it began
        if "loops" in checkpoint and self._trainer is not None:
            devices, loop = self.trainer.world_size, checkpoint["loops"]["fit_loop"]
            share_anew(loop, carried.get("devices", devices), devices)
        self.facts.check_same(self._facts_of(carried))
        theirs, ours = (self._fixed(settings) for settings in (carried["settings"], self.settings))
        for key in sorted(theirs.keys() & ours.keys()):
            if theirs[key] != ours[key]:
                raise ValueError(
                    f"the checkpoint was trained with {key} {theirs[key]}, "
                    f"the config says {ours[key]}: use the config.yaml of its run folder"
                )
        if "state_dict" in checkpoint:  # a sharded checkpoint brings its weights later
            self.check_weights(checkpoint["state_dict"])

    def _facts_of(self, carried: dict[str, Any]) -> Facts:
        """The facts in a checkpoint of this task. Raises ValueError where it is of another."""
        try:
            return self.facts_class.from_dict(carried["facts"])
        except ValueError as error:
            theirs, ours = carried["task"].rpartition(".")[2], type(self).__name__
            if theirs == ours:
                raise
            raise ValueError(
                f"the checkpoint is of task {theirs}, the config's is {ours}: "
                "use the config.yaml of its run folder"
            ) from error

    def _fixed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings without which weights mean nothing."""
        # An older checkpoint does not know the younger settings: it was trained with their defaults.
        backbone = (
            asdict(TransformerConfig()) | settings["backbone"] if "backbone" in settings else {}
        )
        return {f"backbone.{k}": v for k, v in backbone.items() if k not in FREE} | {
            k: v for k, v in settings.items() if k in self.fixed
        }

    def check_weights(self, weights: dict[str, Tensor]) -> None:
        """Raises ValueError naming the first of a checkpoint's weights that this network has not, or the other way."""
        theirs, ours = (
            {name: tuple(weight.shape) for name, weight in some.items()}
            for some in (weights, self.state_dict())
        )
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise ValueError(
                    f"the checkpoint's weights do not fit the config's network: {name} has the shape "
                    f"{theirs.get(name, 'of nothing')} there and {ours.get(name, 'of nothing')} here; "
                    "use the config.yaml of its run folder"
                )

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Self:
        """The trained task, ready to use without its data set.

        Only tensors and plain values are read (`weights_only`), and only a subclass of the class this is called on is
        ever built. Raises ValueError where the file is cut short, no checkpoint, or of another task.
        """
        checkpoint = read_checkpoint(path)
        carried = _carried(checkpoint)
        module, _, name = carried["task"].rpartition(".")
        # A file must not choose what is imported: beside our own tasks, only what the caller has imported.
        if re.fullmatch(r"tfzoo\.tasks\.\w+", module) and find_spec(module):
            import_module(module)
        kind = getattr(sys.modules.get(module), name, None)
        if kind is None:
            raise ValueError(
                f"{path} is of task {carried['task']}, which is not installed, or not imported"
            )
        if not (isinstance(kind, type) and issubclass(kind, cls)):
            raise ValueError(f"{path} is of task {name}; this needs {cls.__name__}")
        try:
            task = kind._of(kind.facts_class.from_dict(carried["facts"]), carried["settings"])
            task.check_weights(checkpoint["state_dict"])
            task.load_state_dict(checkpoint["state_dict"])
        except Exception as error:  # whatever another version wrote, or somebody's editor
            raise ValueError(
                f"{path} was written by tfzoo {carried['version']} and cannot be used by "
                f"{tfzoo.__version__}: {error}"
            ) from error
        try:
            return task.to(device).eval()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"device {device!r} cannot be used: {reason}") from error


def _carried(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What `on_save_checkpoint` put in. Raises ValueError where it is not there."""
    carried = checkpoint.get("tfzoo")
    kinds = {"version": str, "task": str, "settings": dict, "facts": dict}
    if not isinstance(carried, dict) or not all(
        isinstance(carried.get(key), kind) for key, kind in kinds.items()
    ):
        raise ValueError("the checkpoint was not written by tfzoo: it carries no task")
    return carried
