"""What a training writes of itself as it begins or goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

import tfzoo
from tfzoo.cli.report import tell_changed, tell_resumed, tell_start
from tfzoo.tracking import drawn, provenance
from tfzoo.tracking.learning_curves import Baselines, write_baselines
from tfzoo.tracking.loggers import MetricsLogger
from tfzoo.tracking.runs import Run, sweep, write_whole
from tfzoo.tracking.trackio_logger import TrackioLogger
from tfzoo.training.circumstances import circumstances


class Begin(SaveConfigCallback):
    """Writes the whole config into the run's folder, as `tfzoo fit -c` reads it again, and says where that is.

    Only when data, network and checkpoint turn out to be in order: what fails before leaves a folder as it was.
    """

    def __init__(
        self, *arguments: Any, command: list[str], baselines: Baselines, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.command, self.baselines = command, baselines

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning would write now."""

    began = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.began = True
        notes = pl_module.notes()
        if trainer.is_global_zero:
            sweep(Path(trainer.default_root_dir))
            self.save_config(trainer, pl_module, "fit")
            if self.baselines:
                write_baselines(Run(Path(trainer.default_root_dir)), self.baselines)
            notes |= {"provenance": self.save_provenance(trainer, pl_module, notes)}
            if trainer.ckpt_path is not None:
                tell_resumed(trainer.ckpt_path, trainer.global_step)
                drawn.rewind(Run(Path(trainer.default_root_dir)), trainer.global_step)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsLogger | TrackioLogger):
                logger.rewind(trainer.global_step)
            logger.log_hyperparams(notes)

    def save_provenance(
        self, trainer: Any, pl_module: Any, notes: dict[str, Any]
    ) -> dict[str, Any]:
        """Adds under which circumstances training begins or goes on to the run's provenance.json."""
        new = provenance.entry(
            ["tfzoo", *self.command],
            tfzoo.__version__,
            resumed={"checkpoint": str(trainer.ckpt_path), "step": trainer.global_step}
            if trainer.ckpt_path is not None
            else None,
            data=trainer.datamodule.fingerprint(),
            best=dict(zip(("metric", "mode"), pl_module.best, strict=True)),
            parameters=notes.get("parameters"),
            **circumstances(trainer, pl_module.seed),
        )
        tell_changed(provenance.append(Run(Path(trainer.default_root_dir)), new))
        return new

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        run = Run(Path(trainer.default_root_dir))
        config = self.config.clone()
        # Who trains by this config again means a new run of the same name.
        config["experiment"], config["run_id"], config["ckpt_path"] = run.experiment, None, None
        text = self.parser.dump(config, skip_none=False)
        write_whole(run.config_file, text.encode())
        tell_start(run)
