"""What a run logs for the local dashboard: trackio's records, one a line, in the run's own folder.

The lines are those that trackio itself writes where its database would be unsafe (trackio.fragments): a file of one
writer lives on network file systems, travels and vanishes with its run, and no two runs wait for each other. The
database is made of it when somebody looks, see tfzoo/tracking/dashboard.py. Nothing here imports trackio.
"""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfzoo.tracking.runs import Run, append_whole, write_whole

Record = dict[str, Any]


def folder_of(run: Run) -> Path:
    """Where a run keeps its records and the pictures that lie nowhere else."""
    return run.folder / "trackio"


class Records:
    """The records of a run: a JSON line for each row of metrics, picture or table.

    A record has left the process when `log` returns: a killed run keeps it.

    Args:
        run: whose folder they lie in.
        project: trackio's name for what is shown together.
    """

    def __init__(self, run: Run, project: str = "tfzoo") -> None:
        self.run = run
        self.project = project
        self.path = folder_of(run) / "records.jsonl"
        self.config: dict[str, Any] | None = None  # to be told with the next record
        self.file: io.FileIO | None = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Append a record. Values are numbers, tensors of one, or trackio's dictionaries of media."""
        name = f"{self.run.experiment}/{self.run.id}"
        record = {
            "v": 1,
            "kind": "metric",
            "project": self.project,
            "run": name,
            "run_id": name,
            "metrics": plain(metrics),
            "step": step,
            "timestamp": datetime.now(UTC).isoformat(),
            "config": plain(self.config) if self.config else None,
            "log_id": uuid.uuid4().hex,
        }
        line = f"{json.dumps(record, ensure_ascii=False)}\n".encode()
        append_whole(self.file or self._open(), line)
        self.config = None

    def rewind(self, step: int) -> None:
        """Forget what was logged from `step` on: a resumed run comes there again.

        Rows of metrics are counted from 0 and pictures by the steps done: those of `step` itself were drawn before it.
        """
        self.close()
        if not self.path.exists():
            return
        found = read(self.path)
        kept = [r for r in found if r["step"] < step + _has_media(r["metrics"])]
        if len(kept) < len(found):
            lines = (f"{json.dumps(record, ensure_ascii=False)}\n" for record in kept)
            write_whole(self.path, "".join(lines).encode())

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _open(self) -> io.FileIO:
        """Go on where the file ends, without a last line that a kill cut short."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a+b", buffering=0)
        content = self.path.read_bytes()
        self.file.truncate(content.rfind(b"\n") + 1)
        return self.file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "file": None}  # an open file stays in its process


def read(path: Path) -> list[Record]:
    """The whole records of a file, be it that another process is writing it, or was killed at it."""
    found = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    for line in lines[:-1]:  # the last one has not ended
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if (
            isinstance(record, dict)
            and isinstance(record.get("metrics"), dict)
            and isinstance(record.get("step"), int)
        ):
            found.append(record)
    return found


def plain(value: Any) -> Any:
    """A value as trackio writes it: JSON, in which numbers that JSON does not know are words."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, str | int | float | None) else str(value)


def _has_media(metrics: Mapping[str, Any]) -> bool:
    return any(isinstance(value, dict) and "_type" in value for value in metrics.values())
