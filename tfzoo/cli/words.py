"""The words of an experiment's config: every key and class that may stand at a place in it."""

from __future__ import annotations

import inspect

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer

from tfzoo.backbone import TransformerConfig
from tfzoo.data import TaskData
from tfzoo.data.corpora import CORPORA
from tfzoo.tasks import Task
from tfzoo.training.optim import Schedule

_KINDS: dict[str, type] = {
    "trainer": Trainer,
    "trainer.callbacks": Callback,
    "trainer.logger": Logger,
    "model": Task,
    "model.backbone": TransformerConfig,
    "model.optimizer": Optimizer,
    "model.schedule": Schedule,
    "data": TaskData,
}
_GROUPS = {"trainer", "model", "data"}
_OPTIONS = {
    "experiment",
    "runs",
    "run_id",
    "batches_per_step",
    "seed_everything",
    "ckpt_path",
    "config",
}


def known_words(path: str) -> set[str]:
    """What a key at `path`, or a class there, may be called; "" is the top of a config."""
    while path and path not in _KINDS:
        path = path.rpartition(".")[0]
    if not path:
        return _OPTIONS | _GROUPS
    kinds = _subclasses(_KINDS[path])
    words = {name for kind in kinds for name in inspect.signature(kind).parameters}
    words |= {kind.__name__ for kind in kinds}
    return words - {"args", "kwargs", "self"} | (set(CORPORA) if path == "data" else set())


def _subclasses(kind: type) -> set[type]:
    children: list[type] = kind.__subclasses__()
    return {kind}.union(*map(_subclasses, children))
