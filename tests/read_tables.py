"""What a table in the terminal says, as tests read it."""

from __future__ import annotations


def cells(text: str) -> list[list[str]]:
    """The rows of a table of rich."""
    lines = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines
    ]
