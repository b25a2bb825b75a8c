"""Pictures drawn from plain arrays: what a picture is, and the page that it is drawn on."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfzoo.tracking.lettering import caption, columns, lettered
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

    @property
    def lasting(self) -> bool:
        """Whether it is the same at every step: then it is drawn once."""
        return False

    def draw(self) -> Figure:
        with lettered():
            return self.page().figure

    def page(self) -> Page:
        raise NotImplementedError


TITLES = {
    "alignment": "Alignment of a translation with its source",
    "attention": "Attention, head by head",
    "attention-cross": "What the decoder looks at in the source",
    "attention-decoder": "What the decoder looks at in its own text",
    "attention-encoder": "What the encoder looks at in the source",
    "attention-lines": "Attention, head by head",
    "confusion": "Confusion matrix",
    "positions": "Similarity of positions",
}
"""Of pictures by their names; of others the name as words serves."""


def titled(name: str) -> str:
    """What stands above a picture of that name, such as learning-curves."""
    words = name.replace("-", " ")
    return TITLES.get(name, words[:1].upper() + words[1:])


@dataclass
class Page:
    """A figure of equal panels in rows, laid out in inches: labels keep their size on any page.

    title: the picture's name, which `titled` puts in words; size: width and height of a panel. Kept
    free for labels and the scale: left, right of all panels; top, bottom of each; gap between two.
    across: panels of a row; none: as they fit best.
    """

    title: str
    note: str
    panels: int
    size: tuple[float, float]
    left: float = 0.05
    right: float = 0.65
    top: float = 0.05
    bottom: float = 0.1
    gap: float = 0.15
    across: int | None = None
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        from matplotlib.figure import Figure

        self.title = titled(self.title)
        self.pitch = (self.size[0] + self.gap, self.top + self.size[1] + self.bottom)
        self.left += 0.15
        # Somewhat wider than high, the last row as full as can be.
        wished = round(math.sqrt(1.5 * self.panels * self.pitch[1] / self.pitch[0]))
        rows = math.ceil(self.panels / (self.across or max(1, min(self.panels, wished))))
        self.columns = self.across or math.ceil(self.panels / rows)
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

    def stamp(self, draw: Callable[[Axes], None]) -> np.ndarray:
        """What `draw` draws on axes of a panel's size, in inches, as pixels to be pasted: (h, w, 4) bytes."""
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, dpi=self.figure.dpi, facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, self.size[0]), ylim=(self.size[1], 0))
        axes.set_axis_off()
        draw(axes)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba()).copy()

    def paste(self, pixels: np.ndarray, index: int) -> None:
        """Put what `stamp` gave over a panel."""
        row, column = divmod(index, self.columns)
        x = self.left + column * self.pitch[0]
        y = self.height - (self.head + row * self.pitch[1] + self.top) - self.size[1]
        self.figure.figimage(pixels, round(x * self.figure.dpi), round(y * self.figure.dpi))

    def scale(self, shades: Any, label: str) -> None:
        """The colour scale, at the right of the first row."""
        x = self.left + self.columns * self.pitch[0]
        axes = self._axes(x, self.head + self.top, 0.1, min(max(self.size[1], 1.0), 2.5))
        bar = self.figure.colorbar(shades, cax=axes)
        bar.set_label(label, fontsize=8, color="0.25")
        axes.tick_params(labelsize=7, length=2)
        for side in axes.spines.values():
            side.set_visible(False)

    @staticmethod
    def ticks(axes: Axes, along: str) -> None:
        """Numbers at both axes, few and small; along: what the lower one counts."""
        from matplotlib.ticker import MaxNLocator

        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=axis is axes.xaxis, steps=[1, 2, 5, 10]))
        axes.tick_params(labelsize=7, length=2, color="0.75", labelcolor="0.25")
        axes.set_xlabel(along, fontsize=8, labelpad=2, color="0.25")

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
        # The usual level makes these files no smaller, and takes a fifth longer in all.
        figure.savefig(content, format="png", pil_kwargs={"compress_level": 3})
    return content.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file, whole or not at all."""
    write_whole(Path(path), png(figure))


def check(array: np.ndarray, what: str, shape: tuple[int | None, ...], letters: str) -> None:
    """Raises ValueError where an array has not this shape; None stands for any length but 0."""
    fits = array.ndim == len(shape) and all(
        n == m or (n is None and m) for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{what} must be {letters}, here ({wanted}), not {array.shape}")
