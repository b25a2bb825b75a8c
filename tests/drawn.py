"""What a picture shows, asked of matplotlib's artists."""

from __future__ import annotations

import warnings

import numpy as np

from tfzoo.tracking.figures import Picture, png


def attention(heads: int, *shape: int) -> np.ndarray:
    """Equal weights: (H, T, S)."""
    return np.full((heads, *shape), 1 / shape[-1])


def words(picture: Picture) -> list[str]:
    figure = picture.draw()
    texts = [text for axes in figure.axes for text in [*axes.texts, axes.title, axes.xaxis.label]]
    legends = [axes.get_legend() for axes in figure.axes]
    texts += [text for legend in legends if legend is not None for text in legend.get_texts()]
    return [text.get_text() for text in [*figure.texts, *texts]]


def draws_without_complaint(picture: Picture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that it has not
        png(picture.draw())
