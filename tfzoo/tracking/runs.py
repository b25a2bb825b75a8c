"""A run is a folder, `runs/<experiment>/<id>/`: a resumed or requeued job goes on in its own."""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tfzoo.tracking.job import Job, is_batch

RUN_ID = "TFZOO_RUN_ID"
"""How the first process of a job tells the others, which it starts, the id it chose."""


@dataclass(frozen=True, order=True)
class Run:
    """Where everything of one run lies.

    folder: `<root>/<experiment>/<id>`.
    """

    folder: Path

    @property
    def experiment(self) -> str:
        return self.folder.parent.name

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    def started(self) -> bool:
        """Whether anything was written here yet; a folder made a moment ago is no run to show."""
        try:
            return any(p.exists() for p in (self.config_file, self.metrics_file, self.checkpoints))
        except PermissionError:  # somebody else's
            return False


def new_run(root: Path, experiment: str, id: str | None = None) -> Run:
    """Make the folder of a run, or go on in the one that has the given id.

    Without an id, SLURM's or torchrun's name for the job is taken, which a requeue keeps; without
    one of those, the time and a random ending, so that two runs started in the same second never
    share a folder. Every process of a job gets the same run.

    Raises ValueError where a name cannot be a folder's or the processes of a job cannot agree,
    OSError where the folder cannot be made or written.
    """
    given = checked_name("run id", id) if id is not None else _id_of_job()
    folder = Path(root).absolute() / checked_name("experiment", experiment)
    try:
        if given is not None:
            (folder / given).mkdir(parents=True, exist_ok=True)
        while given is None:
            fresh = fresh_id()
            folder.mkdir(parents=True, exist_ok=True)
            try:
                (folder / fresh).mkdir()  # whoever makes the folder owns it
                given = fresh
            except FileExistsError:
                continue
    except OSError as error:
        raise OSError(
            f"no run folder can be made in {folder} ({error.strerror}): "
            "choose a folder that you can write to"
        ) from None
    run = Run(folder / given)
    try:
        check_writable(run)
    except OSError:
        with suppress(OSError):  # one that is not empty is not ours to remove
            run.folder.rmdir()
        raise
    os.environ[RUN_ID] = run.id
    return run


def fresh_id() -> str:
    """The time, and a random ending: no other run's name, even of this second."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_writable(run: Run) -> None:
    """Raises OSError where nothing can be written into a run's folder, be it for its rights or a full disk."""
    if not os.access(run.folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"the run folder {run.folder} cannot be written: choose another or change its rights"
        )
    probe = run.folder / f".room.{os.getpid()}"
    try:
        probe.write_bytes(bytes(1 << 16))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(run.folder)) from None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def run_of(path: Path) -> Run:
    """The run that a checkpoint, a folder or any other file inside a run folder belongs to."""
    path = Path(path).absolute()
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    for folder in (path, *path.parents):
        if folder.is_dir() and Run(folder).started():
            return Run(folder)
    raise ValueError(
        f"{path} belongs to no run: a run's folder holds config.yaml, metrics.csv or checkpoints/"
    )


def check_checkpoint(path: str | Path) -> None:
    """Raises FileNotFoundError where nothing lies there, ValueError where it is a folder of checkpoints."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    inside = Run(path).checkpoints if Run(path).checkpoints.is_dir() else path
    if path.is_dir() and inside.name == "checkpoints":
        known = sorted(inside.glob("*.ckpt"))  # best.ckpt first
        such = f", such as {known[0]}" if known else ""
        raise ValueError(f"{path} is a folder of checkpoints: say which one{such}")


def run_holding(checkpoint: str | Path | None) -> Run | None:
    """The run in whose checkpoints/ a checkpoint lies; None where there is no such file, or no such run.

    A folder that merely holds `checkpoints/` may be anyone's: a run has begun, and left its config or metrics.
    """
    if checkpoint is None or not Path(checkpoint).exists():
        return None
    folder = Path(checkpoint).absolute().parent
    run = Run(folder.parent)
    begun = run.config_file.is_file() or run.metrics_file.is_file()
    return run if begun and folder == run.checkpoints else None


def newest_checkpoint(run: Run) -> Path | None:
    """The checkpoint to go on from, or none: the newest of `numbered`, else whichever was written last.

    One that was cut short is passed over, and so is `best.ckpt`: it may lie between two halves of a step, and is
    written before its step is logged.
    """
    return next(iter(newest_first(run)), None)


def newest_first(run: Run) -> list[Path]:
    """The whole checkpoints of a run, in the order in which one would go on from them."""
    steps = numbered(run.checkpoints)
    others = (path for path in run.checkpoints.glob("*.ckpt") if path.stem != "best")
    return steps + [path for path in _newest_first(others) if path not in steps]


def numbered(folder: Path) -> list[Path]:
    """The whole checkpoints `step-00001200.ckpt` of a folder, the one written last first.

    That is not the highest number where a training went on from an earlier one.
    """
    return _newest_first(p for p in folder.glob("step-*.ckpt") if re.fullmatch(r"step-\d+", p.stem))


def _newest_first(checkpoints: Iterable[Path]) -> list[Path]:
    """The whole ones among them. A training that goes on meanwhile may remove any of them."""
    order = {}
    for path in checkpoints:
        with suppress(FileNotFoundError):
            if _is_whole(path):
                order[path] = (path.stat().st_mtime_ns, path.stem)
    return sorted(order, key=order.__getitem__, reverse=True)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint, be it a file or a sharded one's folder."""
    if checkpoint.is_dir():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none, whenever the writer dies."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        # A full disk is told of no file, and a draft is not what anyone knows by name.
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def append_whole(file: io.FileIO, line: bytes) -> None:
    """Add a line at a file's end, whole or not at all: a disk that is full takes a part first."""
    before = file.seek(0, os.SEEK_END)
    try:
        while line:
            line = line[file.write(line) or 0 :]
    except OSError as error:
        file.truncate(before)
        raise OSError(error.errno, error.strerror, os.fsdecode(file.name)) from None


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left half written: hidden files that end in a process's number."""
    for draft in folder.glob(".*"):
        if re.fullmatch(r"\..+\.\d+(\.partial)?", draft.name) and draft.is_file():
            draft.unlink(missing_ok=True)


def checked_name(what: str, name: str) -> str:
    """The name, where it can be a folder's; raises ValueError else."""
    if not re.fullmatch(r"\w[\w.+=,@-]*", name):
        raise ValueError(
            f"{what} {name!r} must be a folder's name: a letter or digit, "
            "then letters, digits and . _ - + = , @"
        )
    return name


def _id_of_job() -> str | None:
    """What all processes of this job call it; none where this is the first and chooses."""
    environ = os.environ
    # A person in an interactive job may start run after run there.
    if is_batch() and (job := Job.here()) is not None:
        return job.id
    elastic = environ.get("TORCHELASTIC_RUN_ID", "none")
    if elastic != "none":
        return checked_name("torchrun's --rdzv-id", elastic)
    ranks = [
        int(environ.get(key) or 0) for key in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")
    ]
    torchrun = "TORCHELASTIC_RUN_ID" in environ and int(environ.get("WORLD_SIZE") or 1) > 1
    # The first process never reads RUN_ID: a run started from within a run is one of its own.
    if torchrun or (any(ranks) and RUN_ID not in environ):
        raise ValueError(
            "the processes of this job know no common run: give them all the same run id, "
            "or start them with torchrun --standalone or --rdzv-id"
        )
    return environ[RUN_ID] if any(ranks) else None


def folders(folder: Path) -> list[Path]:
    """Those in a folder, less hidden ones; none where it may not be read, and is no run of ours."""
    try:
        with os.scandir(folder) as entries:
            return [Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []


def _is_whole(checkpoint: Path) -> bool:
    """A file's table of contents and a sharded checkpoint's metadata are written last."""
    if checkpoint.is_dir():
        return (checkpoint / ".metadata").exists()
    return zipfile.is_zipfile(checkpoint)
