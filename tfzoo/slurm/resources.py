"""What a job asks SLURM for: from flags, and from a file that holds a site's defaults."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

CLUSTER = "TFZOO_CLUSTER"
"""Environment variable: the file of a site's defaults, where --cluster says none."""

SHORTEST = 240
"""Seconds of a time limit, of which the batch script's warning takes 120, and SLURM up to 60 more."""
_TIME = r"\d+|\d+:\d+|\d+:\d+:\d+|\d+-\d+|\d+-\d+:\d+|\d+-\d+:\d+:\d+|(?i:infinite|unlimited)"
_OURS = {
    "array": "--sweep",
    "clusters": "$SLURM_CLUSTERS, which squeue heeds too",
    "chdir": "the folder you submit from",
    "comment": "tfzoo, which knows its jobs by it",
    "output": "tfzoo, which keeps it in the run's folder",
    "parsable": "tfzoo",
    "test-only": "--dry-run",
    "wait": "--wait",
    "wrap": "--script",
    "nodes": "--nodes",
    "gpus": "--gpus",
    "gpus-per-node": "--gpus",
    "gpus-per-task": "--gpus",
    "ntasks": "--tasks",
    "ntasks-per-gpu": "--gpus",
    "ntasks-per-node": "--tasks",
    "tasks-per-node": "--tasks",
    "time": "--time",
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "constraint": "--constraint",
    "mem": "--memory",
    "cpus-per-task": "--cpus",
    "job-name": "--name",
}
"""Options of sbatch that are not passed on verbatim, and what says them instead."""


@dataclass(frozen=True)
class Resources:
    """What is asked for; None where the batch script's own default stands.

    gpus: of each node, one task each, "4" or with their type, "a100:4"; tasks: of each node, where there are no GPUs;
    time, memory: as sbatch takes them, "1-12:00:00", "64G"; cpus: of each task; options: further options of sbatch.

    Raises ValueError for what SLURM, or Lightning under it, would not take.
    """

    nodes: int = 1
    gpus: str | None = None
    tasks: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    memory: str | None = None
    cpus: int | None = None
    name: str | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, value in (("nodes", self.nodes), ("tasks", self.tasks), ("cpus", self.cpus)):
            if value is not None and value < 1:
                raise ValueError(f"{key} must be at least 1, not {value}")
        if self.gpus is not None and not re.fullmatch(r"([\w.-]+:)?[1-9]\d*", self.gpus):
            raise ValueError(
                f"gpus must be a number above 0, or a type and a number, as a100:4, not {self.gpus!r}; where there "
                "are none, say --tasks N"
            )
        if self.gpus is not None and self.tasks not in (None, self.gpu_count):
            raise ValueError(
                f"each GPU has one task: leave tasks out, or make it {self.gpu_count}, not {self.tasks}"
            )
        if self.time is not None and not re.fullmatch(_TIME, self.time):
            raise ValueError(
                f"time must be minutes, HH:MM:SS, D-HH or D-HH:MM:SS, not {self.time!r}"
            )
        if self.time is not None and 0 < seconds_of(self.time) < SHORTEST and not self._says_when:
            raise ValueError(
                f"time {self.time} is too short: two minutes before its end a job is asked to save and to start again; "
                "give it four at least, or say --sbatch=--signal=SIGUSR2@30"
            )
        if self.memory is not None and not re.fullmatch(r"\d+[KMGTkmgt]?", self.memory):
            raise ValueError(f"memory must be a number with K, M, G or T, not {self.memory!r}")
        if self.name is not None:
            _check_name(self.name)
        for option in self.options:
            _check_option(option)

    @property
    def _says_when(self) -> bool:
        """Whether it is said when the job is warned of its end."""
        return any(option.startswith("--signal=") for option in self.options)

    @property
    def gpu_count(self) -> int:
        """Of a node."""
        return int(self.gpus.rpartition(":")[2]) if self.gpus else 0

    @property
    def tasks_per_node(self) -> int:
        return self.gpu_count or self.tasks or 1

    @property
    def processes(self) -> int:
        """Of the whole training: one for each device."""
        return self.nodes * self.tasks_per_node

    def flags(self) -> list[str]:
        """As options of sbatch."""
        said = {
            "job-name": self.name,
            "nodes": self.nodes,
            "gpus-per-node": self.gpus,
            "ntasks-per-node": self.tasks_per_node,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
        }
        return [f"--{key}={value}" for key, value in said.items() if value is not None] + [
            *self.options
        ]

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: value for key, value in kept.items() if value not in (None, ())}


@dataclass(frozen=True)
class Site:
    """A site's defaults: resources, and its own batch script where it has one."""

    resources: Resources = Resources()
    script: Path | None = None

    @classmethod
    def read(cls, path: str | Path | None) -> Site:
        """The site of a file, or of $TFZOO_CLUSTER; an empty one where neither is given.

        Raises FileNotFoundError, or ValueError naming the file, the key and the nearest right one.
        """
        path = path or os.environ.get(CLUSTER) or None
        if path is None:
            return cls()
        file = Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"there is no cluster file {path}")
        try:
            # Every value as it is written: YAML takes 24:00:00 for a number of seconds.
            content = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader) or {}
            if not isinstance(content, dict):
                raise ValueError("it must hold keys and what they are, as `partition: gpu`")
            script = content.pop("script", None)
            found = resources_of(content)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"cluster file {path}: {error}") from None
        # A script is named as from the file's own folder.
        return cls(found, script and (file.parent / Path(script).expanduser()).absolute())


def resources_of(said: Mapping[str, Any], base: Resources | None = None) -> Resources:
    """Resources of what a file or flags say, over those of `base`; a value of None says nothing."""
    base = base or Resources()
    known = {field.name for field in fields(Resources)}
    given: dict[str, Any] = {}
    for key, value in said.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), [*known, "script"], n=1, cutoff=0.6)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"there is no {key!r}{hint}")
        if value is None:
            continue
        if key in ("nodes", "tasks", "cpus"):
            given[key] = _whole(key, value)
        elif key == "options":
            listed = [value] if isinstance(value, str) else list(value)
            given[key] = (*base.options, *map(str, listed))
        elif isinstance(value, dict | list):
            raise ValueError(f"{key} must be a text, not {value}")
        else:
            given[key] = str(value)
    # Who says how many GPUs there are does not mean a site's number of tasks as well, nor the other way.
    for one, other in (("gpus", "tasks"), ("tasks", "gpus")):
        if one in given and other not in given and base is not None:
            given[other] = None
    return replace(base, **given)


def seconds_of(time: str) -> float:
    """Of a time limit as sbatch takes it; 0 means that there is none."""
    if time.lower() in ("infinite", "unlimited"):
        return 0
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # D-HH[:MM[:SS]]
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) < 3:  # MM[:SS]
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    else:
        hours, minutes, seconds = parts
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _whole(key: str, value: Any) -> int:
    if not re.fullmatch(r"-?\d+", str(value)):
        raise ValueError(f"{key} must be a whole number, not {value!r}")
    return int(value)


def _check_name(name: str) -> None:
    if name in ("bash", "interactive"):
        raise ValueError(
            f"a job may not be called {name!r}: Lightning takes such a job for a person at a shell, and every task "
            "would train alone; choose another --name"
        )
    if not re.fullmatch(r"[\w.+=,@/-]+", name):
        raise ValueError(f"name must be letters, digits and . _ + = , @ / -, not {name!r}")


def _check_option(option: str) -> None:
    found = re.match(r"--([\w-]+)(=|$)", option)
    if found and found[1] == "gres" and re.search(r"[=,]gpu\b", option):
        raise ValueError(f"GPUs are asked for with --gpus, one task each: leave {option} out")
    if not found:
        raise ValueError(
            f"an option for sbatch must be a long one in one word, as --exclude=node7, not {option!r}"
        )
    if (instead := _OURS.get(found[1])) is not None:
        raise ValueError(f"sbatch's --{found[1]} is set by {instead}: leave {option} out")
