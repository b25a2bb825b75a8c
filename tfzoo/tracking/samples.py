"""Tables of samples as files that a person opens and reads."""

from __future__ import annotations

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
