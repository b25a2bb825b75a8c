"""A job about to be submitted, with the folders of its runs: all of it is done, or nothing is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tfzoo.slurm.resources import Resources
from tfzoo.slurm.sbatch import Submission
from tfzoo.tracking.runs import Run, write_whole
from tfzoo.tracking.submitted import Submitted, now, submission_file

POINTS = "points.jsonl"


@dataclass(frozen=True)
class Launch:
    """A job and its runs, one or the points of a sweep.

    arguments: of `tfzoo fit`, of each run; sweep: of each point, else None; folder: the run's, or the sweep's;
    flags: of each point.
    """

    resources: Resources
    script: Path
    directory: Path
    folder: Path
    common: list[str]
    runs: list[Run]
    points: list[dict[str, Any]] = field(default_factory=list)
    flags: list[list[str]] = field(default_factory=list)
    at_once: int | None = None

    @property
    def is_sweep(self) -> bool:
        return bool(self.points)

    @property
    def comment(self) -> str:
        """What SLURM shall know the job by; its numbers begin again some day."""
        kept = self.folder.parts[-3:] if self.is_sweep else self.folder.parts[-2:]
        return f"tfzoo:{'/'.join(kept)}"

    @property
    def points_file(self) -> Path:
        return self.folder / POINTS

    def submission(self) -> Submission:
        options = self.resources.flags()
        folder = str(self.folder).replace("%", "%%")
        options.append(f"--output={folder}/slurm-{'%a' if self.is_sweep else '%j'}.out")
        options.append(f"--comment={self.comment}")
        arguments = list(self.common)
        if self.is_sweep:
            most = f"%{self.at_once}" if self.at_once else ""
            options.append(f"--array=0-{len(self.runs) - 1}{most}")
            arguments += ["--points", str(self.points_file)]
        return Submission(tuple(options), self.script, tuple(arguments), self.directory)

    def arguments(self, index: int) -> list[str]:
        """Of `tfzoo fit`, with which one run can be submitted alone."""
        if not self.is_sweep:
            return self.common
        return [*self.common, *self.flags[index], "--run_id", self.runs[index].id]

    def submit(self) -> list[str]:
        """Makes the folders and submits; returns the number of each run's job.

        Whatever fails leaves no folder behind that was not there, and no other word on a run than there was.
        """
        submission = self.submission()
        with _undone_by_failure() as made:
            before = self._records(submission)
            for run, record in zip(self.runs, before, strict=True):
                made.folder(run.folder)
                made.file(submission_file(run))
                record.write(run)
            if self.is_sweep:
                made.folder(self.folder)
                write_whole(self.points_file, self._points().encode())
            number = submission.submit()
        jobs = [f"{number}_{i}" if self.is_sweep else number for i in range(len(self.runs))]
        for run, record, job in zip(self.runs, before, jobs, strict=True):
            replace(record, job=job).write(run)
        return jobs

    def _records(self, submission: Submission) -> list[Submitted]:
        submitted, id = now(), self.folder.name
        return [
            Submitted(
                job=None,
                submitted=submitted,
                directory=str(self.directory),
                options=list(submission.options),
                resources=self.resources.to_dict(),
                script=str(self.script),
                arguments=self.arguments(index),
                comment=self.comment,
                sweep={"id": id, "index": index, "point": self.points[index]}
                if self.is_sweep
                else None,
            )
            for index in range(len(self.runs))
        ]

    def _points(self) -> str:
        lines = (
            json.dumps({"run_id": run.id, "flags": flags})
            for run, flags in zip(self.runs, self.flags, strict=True)
        )
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Again(Launch):
    """One run that is submitted once more, be it a point of a sweep."""

    sweep: dict[str, Any] | None = None

    def _records(self, submission: Submission) -> list[Submitted]:
        return [replace(record, sweep=self.sweep) for record in super()._records(submission)]


class _Made:
    """Folders and files as they were before."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.around: list[Path] = []
        self.files: dict[Path, bytes | None] = {}

    def folder(self, folder: Path) -> None:
        missing = [folder] if not folder.exists() else []
        around = [parent for parent in folder.parents if not parent.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"no folder can be made at {folder} ({error.strerror}): choose one that you can write to with --runs"
            ) from None
        self.folders += missing
        self.around += around

    def file(self, file: Path) -> None:
        self.files[file] = file.read_bytes() if file.exists() else None

    def undo(self) -> None:
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        for file, content in self.files.items():
            if content is not None:
                write_whole(file, content)
            else:
                file.unlink(missing_ok=True)
        for folder in self.around:
            with suppress(OSError):  # another's run may lie there by now
                folder.rmdir()


@contextmanager
def _undone_by_failure() -> Iterator[_Made]:
    made = _Made()
    try:
        yield made
    except BaseException:
        made.undo()
        raise


def without(arguments: Sequence[str], option: str) -> list[str]:
    """Arguments without an option and its value."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == option:
            skip = True
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept
