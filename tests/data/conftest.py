import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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


@pytest.fixture
def pictures(tmp_path) -> Callable[..., str]:
    """Writes 30 images of cats and dogs into a folder and returns its path: `pictures(size=, mode=)`."""

    def _write(size: tuple[int, int] = (12, 12), mode: str = "L") -> str:
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
        for k in range(30):
            folder = tmp_path / "train" / ("cat", "dog")[k % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(k).integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
        return str(tmp_path)

    return _write
