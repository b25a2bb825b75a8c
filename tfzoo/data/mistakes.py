"""Why a set cannot be read, in one sentence instead of the reader's own traceback."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path

from datasets.exceptions import DatasetNotFoundError, DatasetsError

TEXTUAL = (".txt", ".csv", ".tsv", ".json", ".jsonl")


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Whatever `datasets` raises on reading `path` becomes a ValueError or OSError."""
    try:
        yield
    except (DatasetNotFoundError, ConnectionError) as error:
        if Path(path).expanduser().exists():
            raise unreadable(path, error) from error
        raise FileNotFoundError(
            f"{path} is no embedded set (interface, reviews, digits, shakespeare), no file or "
            "folder here, and no set on the hub that can be reached"
        ) from error
    except Exception as error:
        ours = isinstance(error, ValueError | OSError) and not isinstance(
            error, DatasetsError | UnicodeError
        )
        if empty := re.match(r'Instruction "(\w+)" corresponds to no data', str(error)):
            raise ValueError(f"the {empty[1]} split of {path} is empty") from error
        if ours and "\n" not in str(error):
            raise
        raise unreadable(path, error) from error


def unreadable(path: str, error: BaseException) -> Exception:
    """The first cause of an error, unless a file's encoding says more."""
    for file in sorted(files(Path(path).expanduser())):
        if file.suffix.lower() in TEXTUAL and (wrong := no_utf8(file)):
            return ValueError(wrong)
    while error.__cause__ is not None:
        error = error.__cause__
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    kind = OSError if isinstance(error, OSError) else ValueError
    return kind(f"{path} cannot be read: {reason}")


def unwritable(cache: Path, error: BaseException) -> OSError | None:
    """The sentence for a cache that is full or takes nothing, if that is behind the error."""
    cause: BaseException | None = error
    while cause is not None:
        # `datasets` asks beforehand, and says it in words of its own.
        number = ENOSPC if "Not enough disk space" in str(cause) else getattr(cause, "errno", None)
        if number in (ENOSPC, EDQUOT, EROFS):
            reason = os.strerror(number).lower()
            return OSError(
                f"the cache {cache} cannot be written: {reason}; "
                "make room there, or set data.cache_dir to a folder elsewhere"
            )
        cause = cause.__cause__
    return None


def files(path: Path) -> list[Path]:
    """A file, or all files of a folder but hidden ones; none where there is neither."""
    found = [path] if path.is_file() else path.rglob("*")
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


def no_utf8(file: Path) -> str | None:
    """The sentence for a file that is no UTF-8, if it is not: where, and what to do."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"{file} is not UTF-8 text: line {number} holds the byte {line[error.start]:#x}; "
                    "save it as UTF-8, or leave such lines out with data.skip_broken true"
                )
    return None
