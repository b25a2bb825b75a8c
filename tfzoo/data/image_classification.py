"""Labelled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, Image
from torch import Tensor

from tfzoo.data.augmentation import Augmentation, Look, Square
from tfzoo.data.batching import ImageBatch
from tfzoo.data.broken import Flaws
from tfzoo.data.budget import CountSampler
from tfzoo.data.columns import IMAGES, is_image, labelled
from tfzoo.data.datamodule import TaskData, at_least
from tfzoo.data.facts import Facts
from tfzoo.data.images import Images, Transformed, decoded, unreadable
from tfzoo.data.labels import class_names, class_numbers, missing_labels, unknown_labels
from tfzoo.data.source import Rows
from tfzoo.data.streaming import Split
from tfzoo.data.supposing import Suppositions


@dataclass(frozen=True)
class ImageFacts(Facts):
    """What a classifier of images must know.

    channels: 1 (grey) or 3 (colour); size: pixels of a side, images being square; mean, std: of
        each channel of the
    training images, whose values lie in [0, 1].
    """

    labels: tuple[str, ...]
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def transform(self) -> Callable[[Any], Tensor]:
        """The transform of evaluation: PIL image to (C, size, size) float32, normalised."""
        return Look(self.channels, self.size, self.mean, self.std)


class _Encoded(NamedTuple):
    images: Images
    labels: np.ndarray  # (N,)


class ImageClassificationData(TaskData):
    """Labelled images as batches of square, normalised ones.

    Args:
        image: column of the images; None for image, img, or else the first column of images.
        label: column of the classes; None for label, labels, coarse_label.
        size: pixels of a side; None for the shorter side of the first image, at most 224.
        channels: 1 for grey, 3 for colour; None for what the first image has.
        mean: of each channel, in [0, 1]; None to compute it from the training images.
        std: of each channel, in [0, 1]; None to compute it from the training images.
        batch_size: images of a batch.
        crop: train on random crops: of random size and shape where images are larger than wanted,
            else shifted by up to an eighth.
        flip: probability of mirroring a training image.
        affine: training images are turned by up to so many degrees, and shifted and scaled by up to
            as many percent.
        auto_augment: timm's augmentation policy, such as rand-m9-mstd0.5-inc1; None for none.
        erase: probability of erasing a rectangle of a training image.
        common: what every task's data takes.
    """

    def __init__(
        self,
        path: str,
        image: str | None = None,
        label: str | None = None,
        size: int | None = None,
        channels: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        batch_size: int = 64,
        crop: bool = False,
        flip: float = 0.0,
        affine: float = 0.0,
        auto_augment: str | None = None,
        erase: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        at_least("batch_size", batch_size, 1)
        at_least("size", 1 if size is None else size, 1)
        if channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
        self.image, self.label, self.batch_size = image, label, batch_size
        self.size, self.channels, self.mean, self.std = size, channels, mean, std
        self.augmentation = Augmentation(crop, flip, affine, auto_augment, erase)

    def rows(self, rows: Rows) -> Rows:
        self.image, self.label = labelled(
            rows.features, self.image, IMAGES, is_image, "image", self.label
        )
        # Images are decoded here and not by `datasets`, so that a broken one can be named.
        return rows.select_columns([self.image, self.label]).cast_column(
            self.image, Image(decode=False)
        )

    def flaws(self, rows: Dataset, cache: Path | None) -> Flaws:
        flaws = missing_labels(rows, str(self.label))
        if not self.sieve.skip:
            return flaws  # an image that cannot be read is named when it is decoded
        return flaws | unreadable(rows, str(self.image), cache, self.workers)

    def learn(self, rows: Dataset, cache: Path | None) -> None:
        self.names = class_names(rows, str(self.label))
        origin = self.sieve.origin("train", len(rows))
        first = decoded(rows[0][self.image], origin[0], origin[1][0])
        self.channels = self.channels or (1 if first.mode in ("1", "L", "I;16") else 3)
        self.size = self.size or min(*first.size, 224)
        for name, given in (("mean", self.mean), ("std", self.std)):
            if given is not None and len(given) != self.channels:
                raise ValueError(
                    f"{name} needs {self.channels} values, one a channel, not {len(given)}"
                )
        if self.mean is None or self.std is None:
            few = Images(rows, str(self.image), origin, self.channels)
            mean, std = few.statistics(Square(self.size))
            self.mean, self.std = self.mean or mean, self.std or std

    def encode(self, rows: Dataset, split: str, cache: Path | None) -> _Encoded:
        rows = self.sieve(rows, unknown_labels(rows, str(self.label), self.names), split)
        labels = class_numbers(rows, str(self.label), self.names)
        origin = self.sieve.origin(split, len(rows))
        images = Images(rows, str(self.image), origin, self.channels or 3, cache)
        return _Encoded(images, labels)

    def describe(self, encoded: dict[str, _Encoded]) -> ImageFacts:
        look = self.look()
        return ImageFacts(self.names, look.channels, look.size, look.mean, look.std)

    def suppose(self, suppositions: Suppositions) -> ImageFacts:
        channels, size = self.channels or 3, self.size or suppositions.side
        if self.size is None:
            suppositions.said.append(
                f"images of {size} x {size} pixels (the most that the model has positions for, up to 224; data.size)"
            )
        if self.channels is None:
            suppositions.said.append("colour images (data.channels)")
        labels = suppositions.labels(1000)
        return ImageFacts(labels, channels, size, (0.5,) * channels, (0.5,) * channels)

    def full_batch(self, facts: ImageFacts) -> ImageBatch:  # type: ignore[override]
        images = torch.zeros(self.batch_size, facts.channels, facts.size, facts.size)
        return ImageBatch(images, torch.zeros(self.batch_size, dtype=torch.long))

    def look(self) -> Look:
        assert self.mean is not None
        assert self.std is not None
        assert self.size is not None
        assert self.channels is not None
        return Look(self.channels, self.size, tuple(self.mean), tuple(self.std))

    def batches(self, encoded: _Encoded, shuffle: bool, seed: int) -> Split:
        sampler = CountSampler(len(encoded.labels), self.batch_size, shuffle, seed)
        look = self.look()
        random = self.augmentation.random(look) if shuffle and self.augmentation.any() else None
        dataset = Transformed(encoded.images, encoded.labels, look, random, seed)
        return Split(dataset, sampler, _whole)


def _whole(batch: ImageBatch) -> ImageBatch:
    """Batches come whole from the dataset."""
    return batch
