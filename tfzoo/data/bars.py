"""Progress bars of what takes long before training, shown where somebody watches (`datasets` knows)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from datasets.utils import tqdm

Thing = TypeVar("Thing")


def bar(things: Iterable[Thing], what: str, total: int | None = None) -> Iterator[Thing]:
    """The things one by one, counted by a bar once they have taken a second; total: how many, where len cannot say."""
    yield from tqdm(things, what, total, delay=1, leave=False)
