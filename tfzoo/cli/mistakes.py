"""A user's mistake gets one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tfzoo.cli.complaints import plain
from tfzoo.signals import Stopped

TRACEBACK = "TFZOO_TRACEBACK"
"""Environment variable: set to 1 to see where an error came from."""


_WORKER_DIED = "DataLoader worker (pid"
"""How torch begins when a process that prepares batches is gone."""


@dataclass
class Outcome:
    code: int = 0


@contextmanager
def told_in_one_line() -> Iterator[Outcome]:
    """Run a block; its ValueError or OSError, and what argument parsers raise, become one line and code 2."""
    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()  # what cannot be written is told here, not by the interpreter's end
    except Stopped as stopped:
        if stopped.code:
            print(f"tfzoo: {stopped.message}", file=sys.stderr)
        outcome.code = int(stopped.code or 0)
    except KeyboardInterrupt as interrupt:
        print("; ".join(["tfzoo: interrupted", *_notes(interrupt)]), file=sys.stderr)
        outcome.code = 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not is_mistake(error):
            raise
        if os.environ.get(TRACEBACK) == "1":
            traceback.print_exc()
        print(f"tfzoo: error: {one_line(error)}", file=sys.stderr)
        outcome.code = 2


def is_mistake(error: Exception) -> bool:
    """Whether the user can mend it: bad values, files and settings; anything else is a fault of ours."""
    if _death(error) is not None:
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    # Named, not imported: these come from packages that may not have been needed so far.
    return bool(
        names
        & {
            "ValueError",
            "OSError",
            "MisconfigurationException",
            "ArgumentError",
            "DataFilesNotFoundError",
        }
    )


def one_line(error: Exception) -> str:
    """The message of an error without its line breaks and parsers' repetitions."""
    return "; ".join([_told(error), *_notes(error)])


def _notes(error: BaseException) -> list[str]:
    return [note for note in getattr(error, "__notes__", ()) if note.startswith("tfzoo ")]


def _death(error: BaseException | None) -> RuntimeError | None:
    """That a process which prepares batches is gone: torch raises it wherever this one is, and others may wrap it."""
    while error is not None:
        if isinstance(error, RuntimeError) and _WORKER_DIED in str(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk{f' for {error.filename}' if error.filename else ''}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror.lower()}: {error.filename}"
    if (death := _death(error)) is not None:
        how = re.search(r"killed by signal: \w+|exited unexpectedly", str(death))
        return (
            f"a process that prepares batches died ({how[0] if how else 'it is not known how'}), most often "
            "because memory ran out: set data.workers lower, 0 for none"
        )
    message = _of_worker(str(error))
    message = re.sub(r"^Call to compute_fn of link .*? failed: ", "", message, flags=re.S)
    if type(error).__name__ == "ArgumentError" or message.startswith("Does not validate"):
        message = plain(message)
    return re.sub(r"\s+", " ", message).strip() or type(error).__name__


def _of_worker(message: str) -> str:
    """What an error said in a process that prepares batches: torch hands on its whole traceback."""
    if not (kind := re.match(r"Caught (\w+) in DataLoader worker process", message)):
        return message
    *_, said = re.split(rf"^(?:[\w.]+\.)?{kind[1]}: ", message, flags=re.M)
    return re.sub(r"^\[Errno \d+\] ", "", said)
