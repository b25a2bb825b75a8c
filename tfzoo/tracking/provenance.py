"""provenance.json: under which circumstances a run began, and each time it went on."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tfzoo.tracking.job import Job, is_batch
from tfzoo.tracking.runs import Run, newest_checkpoint, write_whole

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "torchdata",
    "jsonargparse",
    "datasets",
    "pyarrow",
    "tokenizers",
    "timm",
    "sacrebleu",
    "numpy",
    "pillow",
    "wandb",
)
"""What a result may depend on beside Python and tfzoo."""
SECRETS = {"secret", "secrets", "password", "passwd", "credentials"}
KEYS = {"key", "keys", "apikey", "token", "pwd"}
"""What names of secrets end in, as api_key and hf-token: a token_dropout is none."""
HIDDEN = "***"


def provenance_file(run: Run) -> Path:
    return run.folder / "provenance.json"


def entry(command: Sequence[str], tfzoo: str, **circumstances: Any) -> dict[str, Any]:
    """What this process can tell of itself, and what it is told: values that JSON knows."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": without_secrets(command),
        "directory": str(Path.cwd()),
        "git": repository(Path.cwd()),
        "versions": {"python": platform.python_version(), "tfzoo": tfzoo} | versions(PACKAGES),
        "machine": machine(),
        "job": (job := Job.here()) and asdict(job),
        **circumstances,
    }


def append(run: Run, new: Mapping[str, Any]) -> list[str]:
    """Adds an entry to the run's file; returns in words what differs from the first one and may matter.

    A file that somebody has damaged is set aside, and the list begins anew.
    """
    file = provenance_file(run)
    entries = _entries(run)
    if not entries and file.exists():
        file.replace(file.with_name(f"{file.name}.damaged"))
    _write(file, [*entries, new])
    return differences(entries[0], new) if entries else []


def end(run: Run, how: str, step: int) -> None:
    """Notes in the latest entry how that life ended, finished, stopped, interrupted or failed, and after which step."""
    if entries := _entries(run):
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        entries[-1]["ended"] = {"time": now, "how": how, "step": step}
        with suppress(OSError):  # of a full disk the training's own error tells
            _write(provenance_file(run), entries)


def note_pace(run: Run, step: int, counted: str, count: int, seconds: float) -> None:
    """Notes in the latest entry how far that life is: after which step, in how many seconds of training, how much.

    counted: what the count is of, such as "tokens". It stays when the process is killed.
    """
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    told = {"time": now, "step": step, "counted": counted, "count": count, "seconds": seconds}
    with suppress(OSError):  # as above
        if entries := _entries(run):
            _write(provenance_file(run), [*entries[:-1], entries[-1] | {"pace": told}])


def _entries(run: Run) -> list[dict[str, Any]]:
    """None where there is no file, or a damaged one."""
    try:
        entries = json.loads(provenance_file(run).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    whole = isinstance(entries, list) and all(isinstance(one, dict) for one in entries)
    return entries if whole else []


def _write(file: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps(entries, indent=2, ensure_ascii=False)
    write_whole(file, f"{text}\n".encode())


def goes_on(run: Run, asked: bool, named: bool) -> bool:
    """Whether a training in this folder goes on with the run that lies there.

    A job that SLURM starts again does so unasked. Raises ValueError where what lies there would be overwritten, or is
    of another job that had the same number.

    Args:
        asked: whether it is told to go on with whatever is there.
        named: whether the folder was named by the user, and not after the job.
    """
    here = Job.here() if is_batch() else None
    entries = _entries(run)
    before = entries[-1].get("job") if entries else None
    again = here is not None and here.restarts > 0 and (not before or before.get("id") == here.id)
    if again or not run.started():
        return again or asked
    if here is not None and not named:
        raise ValueError(
            f"{run.folder} is of an earlier job with the number of this one: name another folder with --run_id, or go "
            f"on with it by tfzoo resume {run.folder}"
        )
    if not asked and newest_checkpoint(run) is not None:
        raise ValueError(
            f"{run.folder} holds a run already: go on with it by tfzoo resume {run.folder}, or choose another --run_id"
        )
    return asked


def differences(first: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How the data and the versions of torch and tfzoo differ between two entries."""
    told = []
    data, other = first.get("data") or {}, now.get("data") or {}
    for split in [name for name in data if name in other]:
        if data[split] != other[split]:
            rows, now_rows = data[split].get("rows"), other[split].get("rows")
            how = "other rows" if rows == now_rows else f"{rows} rows, now {now_rows}"
            told.append(f"the {split} split ({how})")
    versions, others = first.get("versions") or {}, now.get("versions") or {}
    for name in ("torch", "tfzoo"):
        if versions.get(name) != others.get(name):
            told.append(f"{name} ({versions.get(name)}, now {others.get(name)})")
    return told


def without_secrets(command: Iterable[str]) -> list[str]:
    """A command line without the values of options, and of keys inside of values, whose name speaks of a secret."""
    kept: list[str] = []
    hide = False
    for argument in command:
        option, equals, _ = argument.partition("=")
        is_option = option.startswith("--")
        if hide and not is_option:
            kept.append(HIDDEN)
        elif is_option and equals and _is_secret(option):
            kept.append(f"{option}={HIDDEN}")
        else:
            kept.append(_INSIDE.sub(_hidden, _LOGIN.sub(rf"\1{HIDDEN}@", argument)))
        hide = is_option and not equals and _is_secret(option)
    return kept


_INSIDE = re.compile(
    r"""(["']?([\w.-]+)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,{}\[\]?&]+)"""
)
_LOGIN = re.compile(r"(\w://)[^/@\s]+@")


def _hidden(found: re.Match[str]) -> str:
    return f'{found[1]}"{HIDDEN}"' if _is_secret(found[2]) else found[0]


def _is_secret(name: str) -> bool:
    for part in re.sub("([a-z])([A-Z])", r"\1_\2", name).lower().split("."):
        words = re.findall("[a-z0-9]+", part)
        if SECRETS & set(words) or KEYS & set(words[-1:]):
            return True
    return False


def repository(folder: Path) -> dict[str, Any] | None:
    """The commit of the git repository that a folder lies in, and whether tracked files differ from it.

    None where there is none, or no git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Name, system, processor and memory."""
    pages = {name: os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE")}
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages["SC_PHYS_PAGES"] * pages["SC_PAGE_SIZE"] / 2**30, 1),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()
