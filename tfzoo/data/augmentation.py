"""From a PIL image to a normalised tensor: how images look to the model, and what is random.

torchvision and timm are imported where they are used: text needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import Image as Picture
from PIL.Image import Resampling
from torch import Tensor

LARGE = 128  # from this size on evaluation cuts the inner 7/8 of an image, as is usual for ImageNet


@dataclass(frozen=True)
class Square:
    """Resizes the shorter side and cuts the middle; an image of the wanted size stays as it is."""

    size: int

    def __call__(self, picture: Picture) -> Picture:
        if picture.size == (self.size, self.size):
            return picture
        side = self.size if self.size < LARGE else round(self.size * 8 / 7)
        scale = side / min(picture.size)
        width, height = (max(self.size, round(scale * length)) for length in picture.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        resized = picture.resize((width, height), Resampling.BICUBIC)
        return resized.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True)
class Look:
    """How images look to the model: square, normalised.

    channels: 1 or 3; size: pixels of a side; mean, std: of each channel, in [0, 1].

    Called with a PIL image of any size and mode it gives (C, size, size) float32, as in evaluation.
    """

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, picture: Picture) -> Tensor:
        picture = self.square(picture.convert("L" if self.channels == 1 else "RGB"))
        return self.tensor(np.array(picture)[None])[0]

    def square(self, picture: Picture) -> Picture:
        return Square(self.size)(picture)

    def tensor(self, pictures: np.ndarray) -> Tensor:
        """pictures: (B, H, W) or (B, H, W, C) bytes; returns (B, C, H, W) float32, normalised."""
        levels = torch.from_numpy(pictures.reshape(*pictures.shape[:3], self.channels))
        values = levels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        mean, std = (torch.tensor(of)[:, None, None] * 255 for of in (self.mean, self.std))
        return values.sub_(mean).div_(std)


class Random(NamedTuple):
    """What is random: of PIL images that come out square, and of one normalised (C, H, W) image."""

    picture: Callable[[Picture], Picture]
    erase: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Augmentation:
    """What is random in training images; see ImageClassificationData for each part.

    Raises ValueError naming the part that makes no sense.
    """

    crop: bool
    flip: float
    affine: float
    auto_augment: str | None
    erase: float

    def __post_init__(self) -> None:
        for name in ("flip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, not {getattr(self, name)}")
        if not 0 <= self.affine <= 90:
            raise ValueError(f"affine must be between 0 and 90 degrees, not {self.affine}")

    def any(self) -> bool:
        return any(astuple(self))

    def random(self, look: Look) -> Random:
        from timm.data.random_erasing import RandomErasing
        from torchvision import transforms

        parts: list[Any] = [_RandomCrop(look.size) if self.crop else look.square]
        if self.flip:
            parts.append(transforms.RandomHorizontalFlip(self.flip))
        if self.affine:
            part = self.affine / 100
            bilinear = transforms.InterpolationMode.BILINEAR
            parts.append(
                transforms.RandomAffine(
                    self.affine, (part, part), (1 - part, 1 + part), None, bilinear
                )
            )
        if self.auto_augment:
            parts.append(_auto_augment(self.auto_augment, look))
        erase = RandomErasing(self.erase, mode="pixel", device="cpu") if self.erase else None
        return Random(transforms.Compose(parts), erase)


def _auto_augment(policy: str, look: Look) -> Callable[[Picture], Picture]:
    from timm.data.auto_augment import (
        augment_and_mix_transform,
        auto_augment_transform,
        rand_augment_transform,
    )

    mean = tuple(round(255 * value) for value in look.mean)
    settings = {
        "translate_const": int(look.size * 0.45),
        "img_mean": mean if look.channels == 3 else mean[0],
        "magnitude_max": 9.99,  # at 10 timm asks for posterizing to 0 bits, which Pillow refuses
    }
    make = auto_augment_transform
    if policy.startswith("rand"):
        make = rand_augment_transform
    elif policy.startswith("augmix"):
        make = augment_and_mix_transform
    try:
        return make(policy, settings)
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(
            f"auto_augment must be a policy of timm, such as rand-m9-mstd0.5-inc1, not {policy!r}"
        ) from error


class _RandomCrop:
    """A crop of random size and shape of larger images, shifted by up to an eighth of others."""

    def __init__(self, size: int) -> None:
        from torchvision import transforms

        self.size = size
        self.shifted = transforms.RandomCrop(size, padding=max(1, size // 8))
        bicubic = transforms.InterpolationMode.BICUBIC
        self.resized = transforms.RandomResizedCrop(size, interpolation=bicubic)

    def __call__(self, picture: Picture) -> Picture:
        if min(picture.size) > self.size:
            return self.resized(picture)
        return self.shifted(Square(self.size)(picture))
