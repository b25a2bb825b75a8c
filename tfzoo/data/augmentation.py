"""From a PIL image to a normalised tensor: fixed for evaluation, random for training (timm's and torchvision's parts).

torchvision and timm are imported where they are used: text needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from PIL.Image import Image as Picture
from PIL.Image import Resampling
from torch import Tensor

LARGE = 128  # from this size on evaluation cuts the inner 7/8 of an image, as is usual for ImageNet


def squared(size: int) -> Callable[[Picture], Picture]:
    """Resize the shorter side and cut the middle; an image of the wanted size stays as it is."""
    return _Squared(size)


@dataclass(frozen=True)
class _Squared:
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
class _Mode:
    """To grey or colour."""

    channels: int

    def __call__(self, picture: Picture) -> Picture:
        return picture.convert("L" if self.channels == 1 else "RGB")


def evaluation(
    channels: int | None, size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Callable[[Picture], Tensor]:
    """PIL image to (C, size, size) float32, nothing random."""
    return _composed(channels, [squared(size or 0)], mean, std)


def _composed(channels: Any, parts: list[Any], mean: Any, std: Any, after: Sequence[Any] = ()) -> Any:
    from torchvision import transforms

    last = [transforms.ToTensor(), transforms.Normalize(mean, std), *after]
    return transforms.Compose([_Mode(channels), *parts, *last])


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

    def transform(self, channels: Any, size: Any, mean: Any, std: Any) -> Callable[[Picture], Tensor]:
        """PIL image to (C, size, size) float32, random."""
        from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
        from timm.data.random_erasing import RandomErasing
        from torchvision import transforms

        parts: list[Any] = [_RandomCrop(size) if self.crop else squared(size)]
        if self.flip:
            parts.append(transforms.RandomHorizontalFlip(self.flip))
        if self.affine:
            part = self.affine / 100
            parts.append(
                transforms.RandomAffine(
                    self.affine,
                    translate=(part, part),
                    scale=(1 - part, 1 + part),
                    interpolation=transforms.InterpolationMode.BILINEAR,
                )
            )
        if self.auto_augment:
            grey = tuple(round(255 * value) for value in mean)
            settings = {"translate_const": int(size * 0.45), "img_mean": grey if channels == 3 else grey[0]}
            make = rand_augment_transform if self.auto_augment.startswith("rand") else auto_augment_transform
            parts.append(make(self.auto_augment, settings))
        after = [RandomErasing(self.erase, mode="pixel", device="cpu")] if self.erase else []
        return _composed(channels, parts, mean, std, after)


class _RandomCrop:
    """A crop shifted by up to an eighth of images that have the size, of random size and shape of larger ones."""

    def __init__(self, size: int) -> None:
        from torchvision import transforms

        self.size = size
        self.shifted = transforms.RandomCrop(size, padding=max(1, size // 8))
        self.resized = transforms.RandomResizedCrop(size, interpolation=transforms.InterpolationMode.BICUBIC)

    def __call__(self, picture: Picture) -> Picture:
        return self.shifted(picture) if picture.size == (self.size, self.size) else self.resized(picture)
