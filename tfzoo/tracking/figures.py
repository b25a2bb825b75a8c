"""Pictures of what a network looks at, drawn from plain arrays.

Letters: H heads, T queries, S keys, G patches along an image's side.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tfzoo.tracking.lettering import caption, columns, explanation, labels, lettered
from tfzoo.tracking.runs import write_whole

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Picture:
    """Something to draw.

    name: what it shows, and what every logger calls it.
    """

    name: str

    def draw(self) -> Figure:
        with lettered():
            return self.page().figure

    def page(self) -> Page:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class AttentionPicture(Picture):
    """Who looks at whom: a panel per head, and their mean (Vaswani et al. 2017, figures 3 to 5).

    weights: (H, T, S), each row summing to 1; queries: T words, down; keys: S words, across.
    Beyond `most` words the rest is left out, and the picture says so.
    """

    weights: np.ndarray
    queries: Sequence[str]
    keys: Sequence[str]
    most: ClassVar[int] = 48

    def __post_init__(self) -> None:
        _check(self.weights, "weights", (None, len(self.queries), len(self.keys)), "(H, T, S)")

    def page(self) -> Page:
        weights = self.weights[:, : self.most, : self.most]
        panels = _panels(weights)
        queries, keys = labels(self.queries[: self.most]), labels(self.keys[: self.most])
        # Inches: room for letters of 8 points, of 6 where there are many.
        cell = min(0.19, max(0.14, 4 / max(len(queries), len(keys))))
        points = 42 * cell
        turn = 0 if max(map(columns, keys)) <= 2 else 90
        beside, above = (0.01 * points * max(4, *map(columns, w)) for w in (queries, keys))
        page = Page(
            self.name,
            "   ".join(["each row: where that word looks", *self._notes()]),
            len(panels),
            (max(1.3, cell * len(keys)), max(1.3, cell * len(queries))),
            left=beside,
            top=above + 0.35,
        )
        for index, (title, values) in enumerate(panels):
            axes = page.panel(index, title, lift=above)
            shades = axes.imshow(values, "Blues", vmin=0, vmax=float(weights.max()), aspect="auto")
            # Plain texts: a tick for every word would take most of the time that drawing takes.
            for column, word in enumerate(keys):
                axes.text(column, -0.7, word, size=points, rotation=turn, ha="center", va="bottom")
            for row, word in enumerate(queries if page.starts_row(index) else ()):
                axes.text(-0.7, row, word, size=points, ha="right", va="center_baseline")
        page.scale(shades, "attention")
        return page

    def _notes(self) -> list[str]:
        notes = [
            f"the first {self.most} of {len(words)} {what}"
            for what, words in (("rows", self.queries), ("columns", self.keys))
            if len(words) > self.most
        ]
        return [*notes, explanation([*self.queries[: self.most], *self.keys[: self.most]])]


@dataclass(frozen=True, eq=False)
class PatchPicture(Picture):
    """What the class token looks at: the image, then for each head its attention laid over it.

    (Dosovitskiy et al. 2021, figure 6.)

    weights: (H, G, G), from the class token to each patch; image: (h, w) or (h, w, 3) in 0..1.
    """

    weights: np.ndarray
    image: np.ndarray
    caption: str = ""

    def __post_init__(self) -> None:
        _check(self.weights, "weights", (None, None, None), "(H, G, G)")
        _check_image(self.image)

    def page(self) -> Page:
        from matplotlib.colors import LinearSegmentedColormap

        panels = _panels(self.weights)
        height, width = self.image.shape[:2]
        longest = max(height, width)
        size = (1.7 * width / longest, 1.7 * height / longest)
        page = Page(self.name, self.caption, len(panels) + 1, size, top=0.25)
        _show(page.panel(0, "image"), self.image)
        # Colour means attention alone: below it the image is grey, and neither black nor white.
        grey = self.image if self.image.ndim == 2 else self.image.mean(2)
        grey = 0.25 + 0.65 * grey.clip(0, 1)
        glow = LinearSegmentedColormap.from_list(
            "glow", [(1, 0.8, 0, 0), (1, 0.55, 0, 0.7), (0.9, 0.2, 0, 0.9), (0.75, 0, 0, 1)]
        )
        whole = (-0.5, width - 0.5, height - 0.5, -0.5)
        for index, (title, values) in enumerate(panels, start=1):
            axes = page.panel(index, title)
            _show(axes, grey)
            shades = axes.imshow(values, glow, vmin=0, vmax=float(self.weights.max()), extent=whole)
        page.scale(shades, "attention")
        return page


@dataclass(frozen=True, eq=False)
class ImageGrid(Picture):
    """Images side by side, each with a line below it: those that were misread, say.

    images: each (h, w) or (h, w, 3) in 0..1; captions: one for each image.
    """

    images: Sequence[np.ndarray]
    captions: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions) or not len(self.images):
            raise ValueError(
                f"images and captions must be as many, and some, "
                f"not {len(self.images)} and {len(self.captions)}"
            )
        for image in self.images:
            _check_image(image)

    def page(self) -> Page:
        page = Page(self.name, "", len(self.images), (1.25, 1.25), bottom=0.24, right=0.1)
        for index, (image, line) in enumerate(zip(self.images, self.captions, strict=True)):
            axes = page.panel(index)
            _show(axes, image)
            axes.set_xlabel(caption(line, width=22), fontsize=8, labelpad=3)
        return page


@dataclass
class Page:
    """A figure of equal panels in rows, laid out in inches: labels keep their size on any page.

    size: width and height of a panel. Kept free for labels and the scale: left, right of all
    panels; top, bottom of each.
    """

    title: str
    note: str
    panels: int
    size: tuple[float, float]
    left: float = 0.05
    right: float = 0.65
    top: float = 0.05
    bottom: float = 0.1
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        from matplotlib.figure import Figure

        self.pitch = (self.size[0] + 0.15, self.top + self.size[1] + self.bottom)
        self.left += 0.15
        # Somewhat wider than high, the last row as full as can be.
        wished = round(math.sqrt(1.5 * self.panels * self.pitch[1] / self.pitch[0]))
        rows = math.ceil(self.panels / max(1, min(self.panels, wished)))
        self.columns = math.ceil(self.panels / rows)
        self.head = 0.55 if self.note else 0.38
        words = 0.3 + max(0.09 * columns(self.title), 0.064 * columns(self.note))
        self.width = max(self.left + self.columns * self.pitch[0] + self.right, words)
        self.height = self.head + rows * self.pitch[1] + 0.1
        self.figure = Figure(figsize=(self.width, self.height), dpi=120)
        self._write(self.title, y=0.1, fontsize=11)
        self._write(self.note, y=0.33, fontsize=8, color="0.4")

    def starts_row(self, index: int) -> bool:
        return index % self.columns == 0

    def panel(self, index: int, title: str = "", lift: float = 0) -> Axes:
        """The axes of a panel, counted by rows; its title stands `lift` inches above them."""
        row, column = divmod(index, self.columns)
        x = self.left + column * self.pitch[0]
        axes = self._axes(x, self.head + row * self.pitch[1] + self.top, *self.size)
        axes.set_title(title, fontsize=9, pad=4 + 80 * lift, color="0.25")
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_color("0.75")
            side.set_linewidth(0.6)
        return axes

    def scale(self, shades: Any, label: str) -> None:
        """The colour scale, at the right of the first row."""
        x = self.left + self.columns * self.pitch[0]
        axes = self._axes(x, self.head + self.top, 0.1, min(self.size[1], 2.5))
        bar = self.figure.colorbar(shades, cax=axes)
        bar.set_label(label, fontsize=8, color="0.25")
        axes.tick_params(labelsize=7, length=2)
        for side in axes.spines.values():
            side.set_visible(False)

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Inches from the top left corner."""
        left, bottom = x / self.width, 1 - (y + height) / self.height
        return self.figure.add_axes((left, bottom, width / self.width, height / self.height))

    def _write(self, text: str, y: float, **style: Any) -> None:
        x = 0.15 / self.width
        self.figure.text(x, 1 - y / self.height, caption(text), va="top", **style)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    content = io.BytesIO()
    with lettered():
        figure.savefig(content, format="png")
    return content.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file, whole or not at all."""
    write_whole(Path(path), png(figure))


def _panels(weights: np.ndarray) -> list[tuple[str, np.ndarray]]:
    heads = [(f"head {h}", values) for h, values in enumerate(weights, start=1)]
    return heads if len(heads) == 1 else [("mean", weights.mean(0)), *heads]


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image.clip(0, 1), "gray", vmin=0, vmax=1)


def _check(array: np.ndarray, what: str, shape: tuple[int | None, ...], letters: str) -> None:
    fits = array.ndim == len(shape) and all(
        n == m or (n is None and m) for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{what} must be {letters}, here ({wanted}), not {array.shape}")


def _check_image(image: np.ndarray) -> None:
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"an image must be (h, w) or (h, w, 3), not {image.shape}")
