"""Images: what a class token looks at in one, and several side by side. G: patches along a side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfzoo.tracking.attention_pictures import Layer, heads_in_rows, panels_of
from tfzoo.tracking.figures import Page, Picture, check
from tfzoo.tracking.lettering import caption

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class PatchPicture(Picture):
    """What the class token looks at: the image, then for each head its attention laid over it.

    (Dosovitskiy et al. 2021, figure 6.)

    layers: a row of panels each, weights (H, G, G) from the class token to each patch; image:
    (h, w) or (h, w, 3) in 0..1.
    """

    layers: Sequence[Layer]
    image: np.ndarray
    caption: str = ""

    def __post_init__(self) -> None:
        for layer in self.layers:
            check(layer.weights, "weights", (None, None, None), "(H, G, G)")
        _check_image(self.image)

    def page(self) -> Page:
        from matplotlib.colors import LinearSegmentedColormap

        height, width = self.image.shape[:2]
        longest = max(height, width)
        size = (1.5 * width / longest, 1.5 * height / longest)
        rows, across = heads_in_rows(len(panels_of(self.layers[0].weights)))
        across += 1  # the image, and below it nothing
        page = Page(
            self.name, self.caption, rows * across * len(self.layers), size, top=0.25, across=across
        )
        _show(page.panel(0, "image"), self.image)
        # Colour means attention alone: below it the image is grey, and neither black nor white.
        grey = self.image if self.image.ndim == 2 else self.image.mean(2)
        grey = 0.25 + 0.65 * grey.clip(0, 1)
        glow = LinearSegmentedColormap.from_list(
            "glow", [(1, 0.8, 0, 0), (1, 0.55, 0, 0.7), (0.9, 0.2, 0, 0.9), (0.75, 0, 0, 1)]
        )
        whole = (-0.5, width - 0.5, height - 0.5, -0.5)
        most = max(float(layer.weights.max()) for layer in self.layers)
        for number, (name, weights) in enumerate(self.layers):
            for index, (title, values) in enumerate(panels_of(weights)):
                row, column = divmod(index, across - 1)
                place = (number * rows + row) * across + 1 + column
                axes = page.panel(place, f"{name}: {title}" if index == 0 else title)
                _show(axes, grey)
                shades = axes.imshow(values, glow, vmin=0, vmax=most, extent=whole)
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


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image.clip(0, 1), "gray", vmin=0, vmax=1)


def _check_image(image: np.ndarray) -> None:
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"an image must be (h, w) or (h, w, 3), not {image.shape}")
