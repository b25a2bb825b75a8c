"""Images decoded once and kept as bytes where they fit, else whenever they are wanted."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.utils.data
from datasets import Dataset
from PIL import Image as Pictures
from PIL.Image import Image as Picture
from torch import Tensor

from tfzoo.data.sampling import Draw

MEMORY = 1 << 30  # bytes of decoded images that are kept
SAMPLED = 10_000  # images from which mean and standard deviation are computed


class Images:
    """The images of a split, as PIL images of 1 (grey) or 3 (colour) channels."""

    def __init__(self, rows: Dataset, column: str, split: str, channels: int) -> None:
        self.rows, self.column, self.split, self.channels = rows, column, split, channels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Picture:
        if self.kept is not None:
            return Pictures.fromarray(self.kept[place])
        return self._decoded(place)

    def _decoded(self, place: int) -> Picture:
        mode = "L" if self.channels == 1 else "RGB"
        return decoded(self.rows[place][self.column], self.split, place).convert(mode)

    @cached_property
    def kept(self) -> np.ndarray | None:
        """(N, H, W) or (N, H, W, 3) bytes, if all images have one size and fit into memory."""
        first = np.asarray(self._decoded(0))
        if first.nbytes * len(self) > MEMORY:
            return None
        kept = np.empty((len(self), *first.shape), np.uint8)
        for place in range(len(self)):
            picture = np.asarray(self._decoded(place))
            if picture.shape != first.shape:
                return None
            kept[place] = picture
        return kept

    def statistics(self, squared: Callable[[Picture], Picture]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over (a sample of) the images, values in [0, 1]."""
        places = range(0, len(self), max(1, len(self) // SAMPLED))
        sums = np.zeros((2, self.channels))
        pixels = 0
        for place in places:
            values = np.asarray(squared(self._decoded(place)), np.float64).reshape(-1, self.channels) / 255
            sums += values.sum(0), (values**2).sum(0)
            pixels += len(values)
        mean = sums[0] / pixels
        std = np.sqrt(np.maximum(sums[1] / pixels - mean**2, 1e-6))
        return mean.round(4).tolist(), np.maximum(std, 1e-3).round(4).tolist()


def decoded(stored: dict[str, Any] | None, split: str, place: int) -> Picture:
    """The image of `{"bytes": ..., "path": ...}`.

    Raises ValueError naming the file, or the row where there is no file, if it is missing or broken.
    """
    stored = stored or {"bytes": None, "path": None}
    name = stored["path"] or f"image {place} of the {split} split"
    try:
        with Pictures.open(io.BytesIO(stored["bytes"]) if stored["bytes"] else str(stored["path"])) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError) as error:
        raise ValueError(f"{name} is missing, broken or no image") from error


class Transformed(torch.utils.data.Dataset):
    """Images with a transform applied, and their classes.

    seed: of a random transform, which then follows from seed, epoch and sample alone; None for a fixed transform.
    """

    def __init__(
        self, images: Images, labels: np.ndarray, transform: Callable[[Picture], Tensor], seed: int | None
    ) -> None:
        self.images, self.labels, self.transform, self.seed = images, labels, transform, seed

    def __getitems__(self, draws: list[Draw]) -> list[tuple[Tensor, int]]:
        if self.seed is None:
            return [self._sample(draw) for draw in draws]
        # Transforms draw from all three global sources: lend them, so that dropout in this process is undisturbed.
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            return [self._seeded(draw) for draw in draws]
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])

    def _seeded(self, draw: Draw) -> tuple[Tensor, int]:
        seed = random.Random(f"{self.seed} {draw.epoch} {draw.index}").getrandbits(32)
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: that would reseed the accelerator too
        np.random.seed(seed)
        random.seed(seed)
        return self._sample(draw)

    def _sample(self, draw: Draw) -> tuple[Tensor, int]:
        return self.transform(self.images[draw.index]), int(self.labels[draw.index])

    def __len__(self) -> int:
        return len(self.labels)
