"""Data: from a name, a folder or an embedded set to batches, the same way for every task.

`from tfzoo.data import X` finds the class X in whichever file of this folder has it, so that a new
task's data is one new file.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any


def __getattr__(name: str) -> Any:
    if name[:1].isupper():  # anything else is one of the files, or nothing
        for module in iter_modules(__path__):
            found = getattr(import_module(f"{__name__}.{module.name}"), name, None)
            if getattr(found, "__module__", "").startswith(__name__):
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
