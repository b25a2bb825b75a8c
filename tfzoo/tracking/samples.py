"""Tables of samples as files that a person opens and reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfzoo.tracking.runs import write_whole


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a Markdown table in UTF-8, whole or not at all.

    A cell is text, a number, or an image, of which only the size is told.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    text = "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)
    write_whole(Path(path), text.encode("utf-8"))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_table` wrote, by column; none where the file holds no such table."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    columns, *rows = [_cells(line) for line in lines if line.startswith("| ")] or [[]]
    return [dict(zip(columns, row, strict=False)) for row in rows[1:]]


def _cells(line: str) -> list[str]:
    cells = re.findall(r"((?:\\.|[^|\\])*)\|", line)[1:]
    return [_text(cell.strip(" ")) for cell in cells]


def _text(cell: str) -> str:
    text = cell.replace("<br>", "\n").replace("&lt;", "<")
    return re.sub(r"\\([\\|])", r"\1", text)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "shape"):
        return f"image {'x'.join(map(str, value.shape))}"
    text = str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "<br>".join(text.splitlines())
