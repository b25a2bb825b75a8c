"""Who looks at whom: attention between words, as shades and as lines.

Letters: H heads, T queries, S keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tfzoo.tracking.figures import Page, Picture, check
from tfzoo.tracking.lettering import columns, explanation, labels

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

ACROSS = 12
"""Heads side by side, at most."""


class Layer(NamedTuple):
    """The attention of one layer. weights: (H, T, S), or (H, G, G) over the patches of an image."""

    name: str
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class AttentionPicture(Picture):
    """Who looks at whom, as shades: a panel per head, and their mean.

    (As Bahdanau et al. 2015, figure 3, draw an alignment.)

    weights: (H, T, S), each row summing to 1; queries: T words, down; keys: S words, across.
    Beyond `most` words the rest is left out, and the picture says so. caption: of what it is.
    """

    weights: np.ndarray
    queries: Sequence[str]
    keys: Sequence[str]
    caption: str = ""
    most: ClassVar[int] = 48

    def __post_init__(self) -> None:
        check(self.weights, "weights", (None, len(self.queries), len(self.keys)), "(H, T, S)")

    def page(self) -> Page:
        weights = self.weights[:, : self.most, : self.most]
        panels = panels_of(weights)
        queries, keys = labels(self.queries[: self.most]), labels(self.keys[: self.most])
        # Inches: room for letters of 8 points, of 6 where there are many.
        cell = min(0.19, max(0.14, 4 / max(len(queries), len(keys))))
        points = 42 * cell
        turn = 0 if max(map(columns, keys)) <= 2 else 90
        beside, above = (0.01 * points * max(4, *map(columns, w)) for w in (queries, keys))
        width, height = max(1.3, cell * len(keys)), max(cell, cell * len(queries))
        page = Page(
            self.name,
            note("each row: where that token looks", self.caption, *left_out(self)),
            len(panels),
            (width, height),
            left=beside,
            top=above + 0.35,
        )
        for index, (title, values) in enumerate(panels):
            axes = page.panel(index, title, lift=above)
            shades = axes.imshow(values, "Blues", vmin=0, vmax=float(weights.max()), aspect="auto")
            # Plain texts: a tick for every word would take most of the time that drawing takes.
            for column, word in enumerate(keys):
                axes.text(column, -0.7, word, size=points, rotation=turn, ha="center", va="bottom")
            start = -0.5 - 0.04 * len(keys) / width
            for row, word in enumerate(queries if page.starts_row(index) else ()):
                axes.text(start, row, word, size=points, ha="right", va="center_baseline")
        page.scale(shades, "attention")
        return page


@dataclass(frozen=True, eq=False)
class LinesPicture(Picture):
    """A line from each word to each word it looks at, the thicker the more, a panel per head.

    (Vaswani et al. 2017, figures 3 to 5.) Before the heads of a layer all of them show where one
    word looks: the longest of the second half, which has seen something and is likely to mean
    something.

    layers: a row of panels each, of equal shapes; queries: T words, left; keys: S words, right.
    Beyond `most` words the rest is left out, and the picture says so. caption: of what it is.
    """

    layers: Sequence[Layer]
    queries: Sequence[str]
    keys: Sequence[str]
    caption: str = ""
    most: ClassVar[int] = 24
    line: ClassVar[float] = 0.15  # inches from word to word
    between: ClassVar[float] = 0.8  # inches that lines cross

    def __post_init__(self) -> None:
        for layer in self.layers:
            check(layer.weights, "weights", (None, len(self.queries), len(self.keys)), "(H, T, S)")

    def page(self) -> Page:
        queries, keys = (
            labels([word.strip() or word for word in words[: self.most]], 12)
            for words in (self.queries, self.keys)
        )
        left, right = (0.07 * max(map(columns, words)) + 0.1 for words in (queries, keys))
        height = self.line * max(len(queries), len(keys))
        heads = len(self.layers[0].weights)
        rows, across = heads_in_rows(heads)
        page = Page(
            self.name,
            note(
                f"left: a token; right: the tokens it looks at; thickest: {self._most():.2g} of its attention",
                self.caption,
                *left_out(self),
            ),
            (1 + across) * rows * len(self.layers),
            (max(left + self.between + right, 1.2), height),
            top=0.25,
            gap=0.3,
            right=0.1,
            across=1 + across,
        )
        # Writing takes most of the time that drawing takes: each panel shows the same words, written once.
        ends = [(left - 0.04, queries, "right"), (left + self.between + 0.04, keys, "left")]
        written = page.stamp(partial(self._write, ends))
        word = _telling(queries)
        for number, (layer, weights) in enumerate(self.layers):
            weights = weights[:, : self.most, : self.most]
            first = number * rows * (1 + across)
            axes = self._panel(page, first, f"{layer}: every head")
            page.paste(written, first)
            for head in range(heads):
                self._lines(axes, weights[head, word : word + 1], left, head, start=word)
            for head in range(heads):
                row, column = divmod(head, across)
                place = first + row * (1 + across) + 1 + column
                axes = self._panel(page, place, f"head {head + 1}")
                page.paste(written, place)
                self._lines(axes, weights[head], left, head)
        return page

    @staticmethod
    def _panel(page: Page, place: int, title: str) -> Axes:
        """Axes without a frame, in inches from their top left corner."""
        axes = page.panel(place, title)
        _in_inches(axes, page.size)
        return axes

    def _write(self, ends: Sequence[tuple[float, list[str], str]], axes: Axes) -> None:
        """Both columns of words: where each is, and how aligned."""
        style: dict[str, Any] = {"size": 7.5, "va": "center_baseline", "color": "0.15"}
        for place, words, side in ends:
            for row, text in enumerate(words):
                axes.text(place, self._at(row), text, ha=side, **style)

    def _lines(
        self, axes: Axes, weights: np.ndarray, left: float, head: int, start: int = 0
    ) -> None:
        """weights: (T, S), the first row that of word `start`."""
        from matplotlib import colormaps
        from matplotlib.collections import LineCollection

        strength = (weights / self._most()).clip(0, 1)
        seen = strength > 0.02
        places = [(t, s) for t, s in zip(*seen.nonzero(), strict=True)]
        ends = [
            ((left, self._at(start + t)), (left + self.between, self._at(s))) for t, s in places
        ]
        strength = strength[seen]
        color = colormaps["tab10"](head % 10)[:3]
        shades = [(*color, min(1.0, 0.06 + float(w))) for w in strength]
        lines = LineCollection(ends, colors=shades, linewidths=0.4 + 2.2 * strength)
        lines.set_capstyle("butt")
        axes.add_collection(lines, autolim=False)

    def _most(self) -> float:
        """The attention that the thickest lines stand for: in a long text even the greatest may be small."""
        return max(float(weights.max()) for _, weights in self.layers) or 1.0

    def _at(self, row: int) -> float:
        return self.line * (row + 0.5)


def _in_inches(axes: Axes, size: tuple[float, float]) -> None:
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    axes.patch.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)


def panels_of(weights: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The heads, and before them their mean where they are several."""
    heads = [(f"head {h}", values) for h, values in enumerate(weights, start=1)]
    return heads if len(heads) == 1 else [("mean", weights.mean(0)), *heads]


def heads_in_rows(heads: int) -> tuple[int, int]:
    """In how many rows the heads of a layer are drawn, and how many are side by side."""
    rows = math.ceil(heads / ACROSS)
    return rows, math.ceil(heads / rows)


def note(*parts: str) -> str:
    return "   ".join(filter(None, parts))


def left_out(picture: AttentionPicture | LinesPicture) -> list[str]:
    """What a reader must know of the words of a picture."""
    most, lines = picture.most, isinstance(picture, LinesPicture)
    names = ("words at the left", "words at the right") if lines else ("rows", "columns")
    notes = [
        f"the first {most} of {len(words)} {what}"
        for what, words in zip(names, (picture.queries, picture.keys), strict=True)
        if len(words) > most
    ]
    return [*notes, explanation([*picture.queries[:most], *picture.keys[:most]])]


def _telling(words: Sequence[str]) -> int:
    """The longest word of the second half, special tokens apart; the last of several."""
    half = range(len(words) // 2, len(words))
    return max(half, key=lambda i: (not words[i].startswith("<"), columns(words[i]), i))
