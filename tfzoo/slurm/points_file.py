"""A file of points: a line for each training of a sweep."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import yaml


def read_points(path: str | Path) -> list[dict[str, str]]:
    """The lines of a file: csv with a header of keys, json lines, or a list of mappings in yaml or json.

    Raises FileNotFoundError, or ValueError naming the file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of points {path}")
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".csv":
            rows: Any = list(csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        elif file.suffix in (".yaml", ".yml", ".json"):
            rows = as_json(yaml.safe_load(text))
        else:
            raise ValueError("it must be .csv, .jsonl, .json or .yaml")
        return [_row(row) for row in _list(rows)]
    except (ValueError, csv.Error, yaml.YAMLError) as error:
        raise ValueError(f"file of points {path}: {error}") from None


def _list(rows: Any) -> list[Any]:
    if not isinstance(rows, list) or not rows:
        raise ValueError("it must be a list of mappings, as `- {seed_everything: 1}`")
    return rows


def _row(row: Any) -> dict[str, str]:
    if not isinstance(row, dict) or not row:
        raise ValueError(f"{row!r} is no mapping of keys to values")
    if None in row:
        raise ValueError(f"{row[None]} stands under no key of the header")
    # An empty cell of a csv says nothing.
    return {str(key).strip(): text_of(value) for key, value in row.items() if value != ""}


def text_of(value: Any) -> str:
    """A value of a file of points as it is written after `--key=`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_json(value: Any) -> Any:
    """With a text for whatever YAML knows and JSON does not, a date say."""
    return json.loads(json.dumps(value, default=str))
