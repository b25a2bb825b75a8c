"""Runs as tables of the terminal: rows with SLURM's word on each, how a cell is written, and the same as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfzoo.slurm import queue
from tfzoo.tracking.table import Row, scan

COLOURS = {
    "running": "green",
    "starting": "green",
    "failed": "red",
    "killed": "red",
    "queued": "yellow",
}


def rows_of(root: Path) -> list[Row]:
    """All runs under a folder, with what SLURM says of those whose own word does not settle it."""
    return with_jobs([Row(run) for run in scan(root)])


def with_jobs(rows: list[Row]) -> list[Row]:
    """The same rows; SLURM is asked where any of them was a job of its."""
    if not any(row.circumstances.job for row in rows):
        return rows
    asked = [
        row.circumstances.job for row in rows if row.state.word in ("unknown", "killed", "failed")
    ]
    try:
        known = queue.jobs(job for job in asked if job)
    except OSError as error:
        print(
            f"tfzoo: warning: {error}; states are told as the runs' folders know them",
            file=sys.stderr,
        )
        known = {}
    for row in rows:
        if known and row.state.word != "running":
            row.queue = known
            del row.state  # to be asked again
    return rows


def table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    right = {"step", "time", "train/loss", *numbers}
    table = Table(title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    return table


def width() -> int:
    """Of the terminal; whoever reads a pipe wants whole lines."""
    return Console().width if sys.stdout.isatty() else 250


MANY = 100
"""Rows from which on a column is drawn as one cell: rich takes a second for the cells of seven hundred rows."""


def show(table: Table, columns: Sequence[Sequence[Text]] = ()) -> None:
    """Print a table, filled with the cells of its columns where they are given."""
    many = bool(columns) and len(columns[0]) >= MANY
    for place in range(len(columns)):
        table.columns[place].no_wrap = many
    for row in [map(_joined, columns)] if many else zip(*columns, strict=True):
        table.add_row(*row)
    Console(width=width()).print(table)


def _joined(cells: Sequence[Text]) -> Text:
    return Text("\n").join(cells)


def state(word: str, why: str) -> Text:
    """A reason that is long would take the room of all other columns: --json and the run's own output say the rest."""
    why = shorten(why, 50, placeholder=" ...")
    return Text(f"{word} ({why})" if why else word, style=COLOURS.get(word, ""))


def of(step: int | None, most: int | None) -> Text:
    if step is None:
        return Text("-")
    return Text(f"{step}/{most}" if most else str(step))


def number(value: float | None) -> Text:
    return Text("-" if value is None else f"{value:.4g}")


def cell(value: Any) -> Text:
    return Text(value if isinstance(value, str) else "-" if value is None else json.dumps(value))


def plain(value: Any) -> Any:
    """As JSON can say it: what is no number is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
