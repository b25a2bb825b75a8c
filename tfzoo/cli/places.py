"""Where this process runs, and how files and commands are called from here."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """How to call tfzoo from here: its environment need not be the active one."""
    beside = Path(sys.executable).with_name("tfzoo")
    if not beside.exists() or shutil.which("tfzoo") == str(beside):
        return "tfzoo"
    return shlex.quote(short(beside))


def short(path: Path) -> str:
    """The path from here, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{len(os.sched_getaffinity(0))} CPU cores"
