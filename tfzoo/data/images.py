"""Images decoded once and kept as bytes where they fit, else whenever they are wanted."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
from datasets import Dataset, Features, Value
from datasets.fingerprint import Hasher
from PIL import Image as Pictures
from PIL.Image import Image as Picture

from tfzoo.data.augmentation import Look, Random
from tfzoo.data.bars import bar
from tfzoo.data.batching import ImageBatch
from tfzoo.data.encoding import VERSION, written_whole
from tfzoo.data.sampling import Draw

MEMORY = 1 << 30  # bytes of decoded images that are kept
SAMPLED = 10_000  # images from which mean and standard deviation are computed


class Images:
    """The images of a split, as PIL images of 1 (grey) or 3 (colour) channels.

    origin: the split that the rows were read in and their numbers there, to name a broken one by.
    cache: a folder in which decoded images are kept from run to run, or None.
    """

    def __init__(
        self,
        rows: Dataset,
        column: str,
        origin: tuple[str, np.ndarray],
        channels: int,
        cache: Path | None = None,
    ) -> None:
        self.rows, self.column, self.channels = rows, column, channels
        self.split, self.numbers = origin
        self.cache = cache

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Picture:
        if self.kept is not None:
            return Pictures.fromarray(self.kept[place])
        return self._decoded(place)

    def _decoded(self, place: int) -> Picture:
        mode = "L" if self.channels == 1 else "RGB"
        return decoded(self.rows[place][self.column], self.split, self.numbers[place]).convert(mode)

    @cached_property
    def kept(self) -> np.ndarray | None:
        """(N, H, W) or (N, H, W, 3) bytes, if all images have one size and fit into memory."""
        if self.cache is None:
            return self._all_decoded()
        key = Hasher.hash([VERSION, self.rows._fingerprint, self.column, self.channels])
        file = self.cache / f"images-{key}.npy"
        if not file.exists():
            kept = self._all_decoded()
            if kept is None:
                return None
            with written_whole(file) as aside:
                np.save(aside, kept)
        return np.load(file, mmap_mode="r")

    def _all_decoded(self) -> np.ndarray | None:
        first = np.asarray(self._decoded(0))
        if first.nbytes * len(self) > MEMORY:
            return None
        kept = np.empty((len(self), *first.shape), np.uint8)
        for place in bar(range(len(self)), f"Decoding {self.split}"):
            picture = np.asarray(self._decoded(place))
            if picture.shape != first.shape:
                return None
            kept[place] = picture
        return kept

    def statistics(self, square: Callable[[Picture], Picture]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, in [0, 1], over a sample of the images."""
        places = range(0, len(self), max(1, len(self) // SAMPLED))
        sums = np.zeros((2, self.channels))
        pixels = 0
        for place in bar(places, f"Measuring the colours of {self.split}"):
            values = (
                np.asarray(square(self._decoded(place)), np.float64).reshape(-1, self.channels)
                / 255
            )
            sums += values.sum(0), (values**2).sum(0)
            pixels += len(values)
        mean = sums[0] / pixels
        std = np.sqrt(np.maximum(sums[1] / pixels - mean**2, 1e-6))
        return mean.round(4).tolist(), np.maximum(std, 1e-3).round(4).tolist()


def decoded(stored: dict[str, Any] | None, split: str, number: int) -> Picture:
    """The image of `{"bytes": ..., "path": ...}`.

    Raises ValueError naming the file, or the row by its split and number where there is no file, if it is missing or
    broken.
    """
    stored = stored or {"bytes": None, "path": None}
    name = stored["path"] or f"image {number} (from 0) of the {split} split"
    try:
        with Pictures.open(
            io.BytesIO(stored["bytes"]) if stored["bytes"] else str(stored["path"])
        ) as picture:
            picture.load()
            return picture
    except Exception as error:  # Pillow raises a dozen kinds for what is damaged
        raise ValueError(
            f"{name} is missing, broken or no image; data.skip_broken true leaves such out"
        ) from error


def unreadable(rows: Dataset, column: str, cache: Path | None, processes: int) -> dict[int, str]:
    """Rows whose image cannot be decoded, found by decoding all; the result is kept in the cache."""
    if cache is None:
        told = _flaws_of(rows[:], column)["flaw"]
    else:
        key = Hasher.hash([VERSION, rows._fingerprint, column, "flaws"])
        with environment_kept():
            told = rows.map(
                _flaws_of,
                batched=True,
                batch_size=64,
                fn_kwargs={"column": column},
                remove_columns=rows.column_names,
                features=Features({"flaw": Value("string")}),
                num_proc=processes if processes > 1 else None,
                new_fingerprint=key,
                cache_file_name=str(cache / f"{key}.arrow"),
                desc="Looking for broken images",
            )[:]["flaw"]
    return {place: flaw for place, flaw in enumerate(told) if flaw}


@contextmanager
def environment_kept() -> Iterator[None]:
    """`os.environ` stays the object that it is, which others hold: datasets, mapping in processes, puts a copy there.

    What is set later would be seen by nobody who holds the old one; rich does.
    """
    environment = os.environ
    try:
        yield
    finally:
        os.environ = environment  # noqa: B003


def _flaws_of(batch: dict[str, list[Any]], column: str) -> dict[str, list[str | None]]:
    found: list[str | None] = []
    for stored in batch[column]:
        try:
            decoded(stored, "", 0)
            found.append(None)
        except ValueError as error:
            name = (stored or {}).get("path") or "no file"
            found.append(f"holds no image that can be read ({name}: {error.__cause__})")
    return {"flaw": found}


class Transformed(torch.utils.data.Dataset):
    """Batches of images, transformed and normalised, and their classes.

    seed: of the training's random transforms, which then follow from seed, epoch and sample alone;
        None for evaluation.
    """

    def __init__(
        self, images: Images, labels: np.ndarray, look: Look, random: Random | None, seed: int
    ) -> None:
        self.images, self.labels, self.look, self.random, self.seed = (
            images,
            labels,
            look,
            random,
            seed,
        )
        _ = images.kept  # decoded here, so that worker processes share it

    def __getitems__(self, draws: list[Draw]) -> ImageBatch:
        places = [draw.sample for draw in draws]
        labels = torch.from_numpy(self.labels[places])
        if self.random is None:
            return ImageBatch(self.look.tensor(self._fixed(places)), labels)
        # Transforms draw from all three global sources: lend them, so that dropout in this process
        # is undisturbed.
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            pictures = []
            for draw in draws:
                self._reseed(draw, "picture")
                pictures.append(np.asarray(self.random.picture(self.images[draw.sample])))
            tensor = self.look.tensor(np.stack(pictures))
            if self.random.erase is not None:
                for one, draw in zip(tensor, draws, strict=True):
                    self._reseed(draw, "erase")
                    one.copy_(self.random.erase(one))
            return ImageBatch(tensor, labels)
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])

    def _fixed(self, places: list[int]) -> np.ndarray:
        kept = self.images.kept
        if kept is not None and kept.shape[1:3] == (self.look.size, self.look.size):
            return kept[places]
        return np.stack([np.asarray(self.look.square(self.images[place])) for place in places])

    def _reseed(self, draw: Draw, part: str) -> None:
        seed = random.Random(f"{self.seed} {draw.epoch} {draw.sample} {part}").getrandbits(32)
        torch.default_generator.manual_seed(
            seed
        )  # not torch.manual_seed: that would reseed the accelerator too
        np.random.seed(seed)
        random.seed(seed)

    def __len__(self) -> int:
        return len(self.labels)
