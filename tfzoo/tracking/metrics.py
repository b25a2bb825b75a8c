"""metrics.csv: a row per logged step, a column per metric, blank where a row has none."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfzoo.tracking.runs import append_whole, write_whole


class MetricsFile:
    """A CSV file that grows by rows and, now and then, by a column.

    A row costs one write, and has left the process when the call returns: a killed run keeps it. A
    metric never seen before costs one rewriting of the file under the wider header, which happens
    a handful of times in a run: with the first training row, the first validation, the first test.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows = 0
        self.file: io.FileIO | None = None

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a row. Values are numbers, or tensors of one; without a step rows are counted."""
        file = self.file or self._open()
        row = {"step": self.rows if step is None else step} | {
            key: value.item() if hasattr(value, "item") else value for key, value in metrics.items()
        }
        if new := [key for key in row if key not in self.columns]:
            file = self._widen(new)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            [row.get(column, "") for column in self.columns]
        )
        append_whole(file, line.getvalue().encode("utf-8"))
        self.rows += 1

    def rewind(self, step: int) -> None:
        """Forget the rows from `step` on: a resumed run comes there again."""
        self._open()
        place = self.columns.index("step") if self.columns else 0
        kept = [row for row in self._read() if float(row[place]) < step]
        if len(kept) < self.rows:
            self._write(kept)
            self.rows = len(kept)

    def save(self) -> None:
        """Every row is written as it comes; Lightning asks."""

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _open(self) -> io.FileIO:
        """Go on where the file ends, without a last line that a kill cut short."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            content = self.path.read_bytes()
            end = content.rfind(b"\n") + 1
            if end < len(content):
                os.truncate(self.path, end)
            rows = list(csv.reader(io.StringIO(content[:end].decode("utf-8"), newline="")))
            self.columns, self.rows = (rows[0], len(rows) - 1) if rows else ([], 0)
        self.file = self.path.open("ab", buffering=0)
        return self.file

    def _read(self) -> list[list[str]]:
        """The rows so far, without the header."""
        if not self.columns:
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]

    def _widen(self, new: list[str]) -> io.FileIO:
        before = self._read()
        self.columns = self.columns + new
        return self._write(before)

    def _write(self, rows: list[list[str]]) -> io.FileIO:
        """The file anew."""
        self.close()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(row + [""] * (len(self.columns) - len(row)) for row in rows)
        write_whole(self.path, text.getvalue().encode("utf-8"))
        self.file = self.path.open("ab", buffering=0)
        return self.file
