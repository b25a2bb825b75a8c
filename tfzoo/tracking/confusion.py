"""Which class is read as which. V: classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tfzoo.tracking.figures import Page, Picture, check
from tfzoo.tracking.lettering import columns, explanation, labels

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class ConfusionPicture(Picture):
    """A row for each true class: how often it was read as which, shaded by its share of the row.

    counts: (V, V), true class by class read; classes: their V names. Up to `written` classes the
    counts stand in their cells.
    """

    counts: np.ndarray
    classes: Sequence[str]
    written: ClassVar[int] = 20

    def __post_init__(self) -> None:
        check(self.counts, "counts", (len(self.classes),) * 2, "(V, V)")

    def page(self) -> Page:
        import numpy as np

        names = labels(self.classes, 18)
        count = len(names)
        shares = self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)
        # Inches: room for a count in each cell, for 5 points where there are many classes.
        digits = len(str(int(self.counts.max())))
        cell = max(0.3, 0.075 * digits + 0.1) if count <= self.written else max(0.085, 9 / count)
        cell = min(cell, 0.5) if count > 3 else 0.7
        points = min(8.0, 60 * cell)
        letters = 0.0098 * points * max(map(columns, names))
        turn = 0 if letters < cell else 90
        right = int(self.counts.trace())
        page = Page(
            self.name,
            f"row: the true class; column: read as; {right:,} of {int(self.counts.sum()):,} right"
            + "".join("   " + part for part in [explanation(self.classes)] if part),
            1,
            (max(1.2, cell * count), max(1.2, cell * count)),
            left=letters + 0.1,
            top=letters + 0.15 if turn else 0.25,
        )
        axes = page.panel(0)
        shades = axes.imshow(shares, "Blues", vmin=0, vmax=1, aspect="auto")
        for place, name in enumerate(names):
            axes.text(-0.6, place, name, size=points, ha="right", va="center_baseline")
            axes.text(place, -0.6, name, size=points, rotation=turn, ha="center", va="bottom")
        if count <= self.written:
            for row, column in zip(*self.counts.nonzero(), strict=True):
                color = "white" if shares[row, column] > 0.55 else "0.15"
                text = f"{int(self.counts[row, column])}"
                style: dict[str, Any] = {
                    "size": min(8, points),
                    "ha": "center",
                    "va": "center_baseline",
                }
                axes.text(column, row, text, color=color, **style)
        page.scale(shades, "share of the row")
        return page
