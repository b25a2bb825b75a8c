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


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "shape"):
        return f"image {'x'.join(map(str, value.shape))}"
    text = str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "<br>".join(text.splitlines())


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of such a file, as texts; none where it is not there, or no table."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return [], []
    table = [line for line in lines if line.startswith("| ") and line.endswith(" |")]
    head, *rows = [[_text(cell) for cell in line[2:-2].split(" | ")] for line in table] or [[]]
    return head, [row for row in rows[1:] if len(row) == len(head)]


def _text(cell: str) -> str:
    text = cell.replace("<br>", "\n").replace("&lt;", "<")
    return re.sub(r"\\([\\|])", r"\1", text)
