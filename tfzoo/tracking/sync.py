"""Uploads the W&B runs that were written offline, fragment by fragment, and remembers what was sent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tfzoo.tracking import sync_log
from tfzoo.tracking.account import has_account, server
from tfzoo.tracking.runs import Run, write_whole

PATIENCE = 15.0
"""Seconds in which a server must answer at all."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Fragment:
    """What one life of a run wrote: `wandb/offline-run-<time>-<id>/run-<id>.wandb`."""

    file: Path

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    @property
    def marker(self) -> Path:
        """W&B's own commands look for it too."""
        return self.file.with_name(f"{self.file.name}.synced")

    @property
    def state(self) -> Path:
        """Where wandb notes at which row of the run it began to send, so that what failed is sent to the same place."""
        return self.file.with_name(f"{self.file.name}.syncstate")

    def is_sent(self) -> bool:
        """Whether it was sent, and has not grown since."""
        known = self._noted("bytes")
        # `wandb sync` does not say how much it sent.
        return self.marker.exists() if known is None else known >= self.size

    def sent(self) -> int:
        """How many bytes of it the server has: whole records."""
        return self._noted("sent") or 0

    def _noted(self, what: str) -> int | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            return int(json.loads(self.marker.read_text(encoding="utf-8"))[what])
        return None


@dataclass(frozen=True)
class Sent:
    """What was sent of a fragment: rows of history, up to a training step; and where it can be seen."""

    bytes: int
    rows: int
    step: int | None
    address: str


def fragments(run: Run) -> list[Fragment]:
    """In the order of their time, which their names begin with."""
    return [Fragment(f) for f in sorted(run.folder.glob("wandb/offline-run-*/run-*.wandb"))]


def waiting(run: Run) -> list[Fragment]:
    """Those that are to be sent."""
    return [fragment for fragment in fragments(run) if not fragment.is_sent()]


def sending(run: Run) -> FileLock:
    """For the one process that sends a run's fragments; raises filelock.Timeout at once where another does.

    Not the lock of a training: a job that goes on with the run must not find it taken.
    """
    return FileLock(run.folder / "wandb" / "sync.lock", timeout=0)


def check_server() -> None:
    """Raises ValueError where there is nobody to send runs as, ConnectionError where no server answers."""
    if not has_account():
        raise ValueError(
            f"there is no account to send runs to {server()} with: run `wandb login`, or set WANDB_API_KEY"
        )
    try:
        urllib.request.urlopen(server(), timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"no W&B server answers at {server()} ({reason})") from None


def send(run: Run, fragment: Fragment) -> Sent:
    """Upload one fragment of a run; those before it must have been sent.

    What is sent is a copy, cut after the last whole record (a killed process may have left half of one, on which
    wandb would give up) and where a later life of the run began again: what follows was done once more there. Of a
    fragment that has grown, only the new rows are sent.

    Raises ValueError saying why W&B did not take it.
    """
    content = fragment.file.read_bytes()
    size = len(content)
    later = [
        sync_log.first_step(sync_log.steps(other.file.read_bytes()))
        for other in _after(run, fragment)
    ]
    begun = min((step for step in later if step is not None), default=None)
    kept = sync_log.before(sync_log.steps(content), begun)
    if kept.end <= max(fragment.sent(), sync_log.HEADER):  # nothing whole was written before a kill
        _note(fragment, size, fragment.sent(), "")
        return Sent(0, 0, None, "")
    with tempfile.TemporaryDirectory(prefix="tfzoo-sync-") as folder:
        place = Path(folder) / fragment.file.parent.name
        place.mkdir()
        copy = Fragment(place / fragment.file.name)
        copy.file.write_bytes(sync_log.without_rows(content[: kept.end], fragment.sent()))
        if (files := fragment.file.with_name("files")).is_dir():
            (place / "files").symlink_to(files.absolute())
        if fragment.state.exists():
            shutil.copy(fragment.state, copy.state)
        said = _wandb_sync(copy.file)
        if copy.state.exists():
            write_whole(fragment.state, copy.state.read_bytes())
        if not copy.marker.exists():
            raise ValueError(f"W&B did not take {fragment.file}: {_reason(said)}")
    address = next((a for a in (_address(line) for line in said) if a), "")
    known = sync_log.before(sync_log.steps(content[: fragment.sent()]), None).rows
    sent = Sent(kept.end - fragment.sent(), kept.rows - known, kept.step, address)
    _note(fragment, size, kept.end, address)
    fragment.state.unlink(missing_ok=True)  # what comes after follows all that the server has
    return sent


def _note(fragment: Fragment, size: int, end: int, address: str) -> None:
    note = {"bytes": size, "sent": end, "address": address}
    write_whole(fragment.marker, f"{json.dumps(note)}\n".encode())


def _after(run: Run, fragment: Fragment) -> list[Fragment]:
    every = fragments(run)
    return every[every.index(fragment) + 1 :]


def _wandb_sync(file: Path) -> list[str]:
    """What `wandb sync` says, line by line: it tells by no exit code whether it was done."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--include-synced", str(file)],
        cwd=file.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = _COLOURS.sub("", done.stdout).splitlines()
    return [line.removeprefix("wandb:").strip() for line in lines]


def _address(line: str) -> str | None:
    found = re.search(r"View run(?: .*)? at:? (https?://\S+)", line)
    return found[1] if found else None


def _reason(said: Sequence[str]) -> str:
    """The last line that speaks of an error, else the last."""
    errors = [line for line in said if re.search("error|fail|denied|not |invalid", line, re.I)]
    return (errors or [line for line in said if line] or ["it did not say why"])[-1]
