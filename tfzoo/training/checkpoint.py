"""Checkpoints on disk: a new one is whole before it takes an old one's place."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from tfzoo.tracking.runs import Run, check_checkpoint, newest_first


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, renames; reads tensors and plain values only.

    A full disk, a lost connection or a kill while saving leaves the previous checkpoint of that name as it was.
    Raises OSError naming the file where it cannot be written.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except (OSError, RuntimeError) as error:
            # torch's writer speaks of its zip archive in a RuntimeError, on top of what the disk said.
            disk = error if isinstance(error, OSError) else error.__context__
            if not isinstance(disk, OSError) and "inline_container" not in str(error):
                raise
            shown = target.with_name(target.name.removeprefix(".").removesuffix(".draft"))
            reason = getattr(disk, "strerror", None) or "the disk is full or went away"
            raise OSError(
                f"cannot save the checkpoint {shown}: {reason}; "
                + ("the previous one is kept" if target.exists() else "nothing was written")
            ) from error
        finally:
            with suppress(OSError):  # a folder that cannot be had cannot be tidied either
                partial.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint = read_checkpoint(path, map_location)
        if "pytorch-lightning_version" not in checkpoint:
            raise ValueError(f"{path} is no checkpoint of a training: no Trainer wrote it")
        return checkpoint


def whole(plugins: list[Any]) -> list[Any]:
    """A trainer's plugins, among which whatever writes checkpoints writes whole ones."""
    writers = [plugin for plugin in plugins if isinstance(plugin, CheckpointIO)]
    if not writers:
        return [*plugins, WholeCheckpointIO()]
    for writer in writers:
        if isinstance(
            writer, _WrappingCheckpointIO
        ):  # as AsyncCheckpointIO; its own, if it was given one, stays
            writer.checkpoint_io = WholeCheckpointIO()
    return plugins


def read_checkpoint(path: str | os.PathLike, map_location: Any = "cpu") -> dict[str, Any]:
    """The contents of a checkpoint; never executes anything in it. Raises ValueError where it cannot be one."""
    path = Path(path)
    check_checkpoint(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is cut short, or something else"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            # torch itself does not look at the checksums that it writes.
            if (part := archive.testzip()) is not None:
                raise ValueError(f"{part} is not what was written")
        checkpoint = torch.load(path, map_location, weights_only=True)
    except UnpicklingError:
        raise ValueError(
            f"{path} is no checkpoint of tfzoo: it holds code or objects, which are never loaded"
        ) from None
    except Exception as error:  # torch.load raises a dozen kinds for a damaged file
        reason = str(error).partition("\n")[0][:120] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged ({reason})"
        ) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is no checkpoint: it holds no state_dict")
    return checkpoint


def newest_sound(run: Run) -> Path | None:
    """The checkpoint to go on from: the newest of a run that can be read from end to end; none where there is none.

    Says which are passed over. Raises ValueError naming the newest where all are damaged.
    """
    passed: list[ValueError] = []
    order = newest_first(run)
    for path in run.checkpoints.glob("step-*.ckpt"):
        if path not in order:
            rank_zero_info(f"{path} is cut short; passed over")
    for path in order:
        try:
            if not path.is_dir():  # a sharded one is read by its processes together
                WholeCheckpointIO().load_checkpoint(path, "cpu")
        except ValueError as error:
            passed.append(error)
            continue
        for damaged in passed:
            rank_zero_info(f"{damaged}; passed over")
        return path
    if passed:
        raise ValueError(f"{run.folder} holds no checkpoint to go on from: {passed[0]}")
    return None
