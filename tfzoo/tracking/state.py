"""The state of a run: what its folder tells, and what SLURM says of its job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from tfzoo.tracking.lock import holder, running_file
from tfzoo.tracking.provenance import provenance_file
from tfzoo.tracking.runs import Run
from tfzoo.tracking.submitted import Submitted, seconds

GOING = ("running", "starting", "queued")
"""The states of a run that nobody else may take up."""

STATES = (*GOING, "finished", "stopped", "interrupted", "failed", "killed", "unknown")
"""All of them."""


class Job(Protocol):
    """What is asked of SLURM's word on a job."""

    @property
    def state(self) -> str: ...
    @property
    def used(self) -> str: ...
    @property
    def nodes(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def waits(self) -> bool: ...
    @property
    def is_there(self) -> bool: ...
    def told(self) -> str: ...


@dataclass(frozen=True)
class State:
    """One of STATES, and why."""

    word: str
    why: str = ""

    @property
    def is_going(self) -> bool:
        return self.word in GOING

    def told(self) -> str:
        return f"{self.word} ({self.why})" if self.why else self.word


_DICTS = ("job", "ended", "pace", "git", "best", "resumed")
"""Of an entry of provenance.json what is a dict, where it is there."""


class Circumstances:
    """What a run's folder says of how it came to be: its submission, and an entry for each time it was trained."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def submitted(self) -> Submitted | None:
        return Submitted.of(self.run)

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        try:
            entries = json.loads(provenance_file(self.run).read_bytes())
        except (OSError, ValueError):
            return []
        entries = entries if isinstance(entries, list) else []
        return [_sound(entry) for entry in entries if isinstance(entry, dict)]

    @property
    def began(self) -> bool:
        """Whether training began since it was submitted last, or was never submitted and began."""
        if not self.entries or self.submitted is None:
            return bool(self.entries)
        return self.time_of(self.entries[-1]) >= self.submitted.time

    @property
    def job(self) -> str | None:
        """The number of the newest job."""
        if self.submitted is not None:
            return self.submitted.job
        return job_of(self.entries[-1]) if self.entries else None

    @staticmethod
    def time_of(entry: Mapping[str, Any]) -> float:
        return seconds(entry.get("started"))

    def known(self, queue: Mapping[str, Job]) -> Job | None:
        """The newest job as SLURM knows it; numbers begin again some day, and another's job is not ours."""
        found = queue.get(self.job) if self.job else None
        mark = self.submitted.comment if self.submitted else ""
        strange = found is not None and mark and found.comment and found.comment != mark
        return None if strange else found

    def state(self, queue: Mapping[str, Job]) -> State:
        """The run's state, given what SLURM knows of jobs by number."""
        left = running_file(self.run).exists()
        if left and (trains := holder(self.run)) is not None:
            return State("running", trains.told())
        job = self.known(queue)
        # SLURM takes a while to see the end of a job.
        over = job is not None and not job.waits and self.began and not left
        over = over and self._ended(None).word == "finished"
        if job is not None and job.is_there and not over:
            return State("queued" if job.waits else "starting", job.reason)
        if left:
            return State("killed", job.told() if job else "")
        if self.began:
            return self._ended(job)
        return self._not_begun(job)

    def _ended(self, job: Job | None) -> State:
        ended = self.entries[-1].get("ended") if self.entries else None
        if isinstance(ended, dict) and isinstance(ended.get("how"), str):
            return State(ended["how"], self._error() if ended["how"] == "failed" else "")
        if job is None:
            return State("unknown")
        return State("finished") if job.state == "COMPLETED" else State("failed", job.told())

    def _not_begun(self, job: Job | None) -> State:
        """Of a submission that came to no training."""
        if job is not None and job.state == "COMPLETED":  # there was nothing left to train
            return self._ended(job)
        if (error := self._error()) or job is not None:
            return State("failed", error or (job.told() if job else ""))
        return State("unknown", f"SLURM knows no job {self.job}" if self.job else "")

    def _error(self) -> str:
        return (self.submitted.error() if self.submitted else None) or ""


def _sound(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of provenance.json without what is not of its kind: somebody may have edited it."""
    return {k: v for k, v in entry.items() if k not in _DICTS or isinstance(v, dict)}


def job_of(entry: Mapping[str, Any]) -> str | None:
    """The number of the job that an entry of provenance.json was written in."""
    job = entry.get("job")
    id = job.get("id") if isinstance(job, dict) else None
    return str(id) if id is not None else None
