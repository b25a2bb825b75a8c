"""How alike positions are: cosine similarity of their encodings, learned beside sinusoidal.

Letters: T positions, D width, G patches along an image's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfzoo.tracking.figures import Page, Picture, check

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class PositionPicture(Picture):
    """The similarity of each position to each other, and over their distance on average.

    encodings: by name, (T, D) each. Of a rotation (Su et al. 2021) take the cosines and sines: their
    product depends on the distance alone. grid: G, where the positions are a class token and the
    patches of an image: then each patch's similarity to all, in its place (Dosovitskiy et al. 2021,
    figure 7). changing: whether training changes any of them. total: positions that there are, where
    only the first T are given.
    """

    encodings: Mapping[str, np.ndarray]
    grid: int = 0
    changing: bool = True
    total: int = 0
    side: ClassVar[float] = 2.6

    def __post_init__(self) -> None:
        length = len(next(iter(self.encodings.values())))
        for name, encoding in self.encodings.items():
            check(encoding, name, (length, None), "(T, D)")
        if self.grid and length != 1 + self.grid**2:
            raise ValueError(f"a grid of {self.grid} must be of {1 + self.grid**2} positions")

    @property
    def lasting(self) -> bool:
        return not self.changing

    def page(self) -> Page:
        alike = {name: similarity(encoding) for name, encoding in self.encodings.items()}
        length = len(next(iter(alike.values())))
        first = f"   the first {length} of {self.total}" if self.total > length else ""
        page = Page(
            self.name,
            f"cosine similarity of position encodings{first}",
            len(alike) + 1 + bool(self.grid),
            (self.side, self.side),
            left=0.35,
            top=0.3,
            bottom=0.45,
            gap=0.6,
            right=0.75,
            across=len(alike) + 1 + bool(self.grid),
        )
        for index, (name, values) in enumerate(alike.items()):
            axes = page.panel(index, name)
            shades = axes.imshow(values, "RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            page.ticks(axes, "position")
        if self.grid:
            axes = page.panel(len(alike), f"{next(iter(alike))}: each patch to all, in its place")
            mosaic = _mosaic(next(iter(alike.values()))[1:, 1:], self.grid)
            shades = axes.imshow(mosaic, "RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes = page.panel(page.panels - 1, "mean over pairs of a distance")
        axes.axhline(0, color="0.8", linewidth=0.6)
        for name, values in alike.items():
            means = [values.diagonal(distance).mean() for distance in range(length)]
            axes.plot(range(length), means, linewidth=1.2, label=name)
        axes.set_ylim(-0.6, 1.05)
        axes.legend(fontsize=7, frameon=False, loc="upper right")
        page.ticks(axes, "distance")
        page.scale(shades, "similarity")
        return page


def similarity(encoding: np.ndarray) -> np.ndarray:
    """(T, D) to the (T, T) cosines between its rows; that of a row of zeros is 0."""
    import numpy as np

    rows = encoding.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows @ rows.T


def _mosaic(alike: np.ndarray, grid: int) -> np.ndarray:
    """(G^2, G^2) to G x G maps of G x G, with gaps between them."""
    import numpy as np

    maps = alike.reshape(grid, grid, grid, grid)
    framed = np.full((grid, grid, grid + 1, grid + 1), np.nan)
    framed[:, :, :grid, :grid] = maps
    return framed.transpose(0, 2, 1, 3).reshape(grid * (grid + 1), grid * (grid + 1))[:-1, :-1]
