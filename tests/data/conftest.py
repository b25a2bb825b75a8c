import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """A folder of this session for all that is cached."""
    return str(tmp_path_factory.mktemp("cache"))


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path) -> Write:
    """Writes splits as jsonl files into a folder and returns its path: `write(train=rows, test=rows)`."""

    def _write(**splits: list[dict]) -> str:
        for name, rows in splits.items():
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            Path(tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path)

    return _write
