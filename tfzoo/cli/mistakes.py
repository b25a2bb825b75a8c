"""A user's mistake gets one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TRACEBACK = "TFZOO_TRACEBACK"
"""Environment variable: set to 1 to see where an error came from."""


@dataclass
class Outcome:
    code: int = 0


@contextmanager
def told_in_one_line() -> Iterator[Outcome]:
    """Run a block; its ValueError or OSError, and what argument parsers raise, become one line and code 2."""
    outcome = Outcome()
    try:
        yield outcome
    except KeyboardInterrupt:
        print("tfzoo: interrupted", file=sys.stderr)
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
    names = {kind.__name__ for kind in type(error).__mro__}
    # Named, not imported: these come from packages that may not have been needed so far.
    return bool(
        names & {"ValueError", "OSError", "MisconfigurationException", "ArgumentError", "DataFilesNotFoundError"}
    )


def one_line(error: Exception) -> str:
    """The message of an error without its line breaks and parsers' repetitions."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk{f' for {error.filename}' if error.filename else ''}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror.lower()}: {error.filename}"
    message = re.sub(r"^Call to compute_fn of link .*? failed: ", "", str(error), flags=re.S)
    if "Parser key" in message or "Does not validate" in message:
        message = innermost(message)
    message = re.sub(r"\s+", " ", message).strip()
    return (message + suggestion(message)) or type(error).__name__


_SCAFFOLD = (
    r"Does not validate against|Subtypes: |Errors:|Problem with given class_path|Given value|"
    r"Expected a <class 'NoneType'>"
)


def innermost(message: str) -> str:
    """What jsonargparse complains of at the bottom of its nested report, behind the path of keys that leads there."""
    path: list[str] = []
    complaints: list[str] = []
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        if key := re.match(r'Parser key "([^"]+)":\s*(.*)', text):
            path.append(key[1])
            text = key[2]
        if text and not re.match(_SCAFFOLD, text):
            complaints.append(text)
    # Alternatives of a union complain one after the other; the first is of the one that was meant.
    where = f"{'.'.join(path)}: " if path else ""
    return where + (complaints[0] if complaints else "is not valid")


_UNKNOWN = (
    r"unrecognized arguments: --([\w.+]+)",
    r"Option '([\w.]+)' is not accepted",
    r"Key '([\w.]+)' is not expected",
    r"Expected a path but (\w[\w.]*) either not",
    r"class_path '?([\w.]+)'?",
)


def suggestion(message: str) -> str:
    """`, did you mean 'x'?` where the message names a key or class unknown to a command that has been loaded."""
    experiment = sys.modules.get("tfzoo.cli.experiment")
    for pattern in _UNKNOWN if experiment else ():
        if found := re.search(pattern, message):
            return nearest(found[1].rpartition(".")[2], experiment.known_words())  # type: ignore[union-attr]
    return ""


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where something known is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""
