"""The SLURM job that a process belongs to."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A job, in one of its lives.

    id: `12`, or `12_3` for a task of an array; restarts: how often it was requeued; nodes: as SLURM lists them.
    """

    id: str
    restarts: int
    nodes: str

    @classmethod
    def here(cls) -> Job | None:
        """That of this process; None outside of SLURM."""
        environ = os.environ
        if "SLURM_JOB_ID" not in environ:
            return None
        array, task = (environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
        return cls(
            id=f"{array}_{task}" if array is not None else environ["SLURM_JOB_ID"],
            restarts=int(environ.get("SLURM_RESTART_COUNT") or 0),
            nodes=environ.get("SLURM_JOB_NODELIST", ""),
        )


def is_first() -> bool:
    """Whether this is the first process of a job of several, or alone."""
    ranks = ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")
    return not any(int(os.environ.get(name) or 0) for name in ranks)


def is_batch() -> bool:
    """Whether this process is of a SLURM job that runs by itself, and not started by a person in an interactive one.

    As Lightning, take two names of jobs for a person's.
    """
    by_hand = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_JOB_ID" in os.environ and not by_hand
