"""Curves in the terminal, drawn by plotext in Braille: two by four points to a character."""

from __future__ import annotations

from collections.abc import Sequence

from tfzoo.cli.svg import bounds, ticks
from tfzoo.tracking.readings import Curve, thinned

COLOURS = (33, 208, 35, 170, 160, 37, 136, 99)
"""Of the 256 that terminals know, those that can be read on dark and on light ground."""


def colour(place: int) -> int:
    return COLOURS[place % len(COLOURS)]


def chart(
    title: str,
    letters: Sequence[str],
    curves: Sequence[Curve],
    size: tuple[int, int],
    coloured: bool,
) -> str:
    """The curves of one metric over steps, each with its letter where it ends.

    size: columns and lines.
    """
    import plotext  # takes a moment, and is needed by nothing else

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(*size)
    figure.title(title)
    figure.label("step", "x", "lower")
    figure.legend(False)
    points = [point for curve in curves for point in curve]
    steps, values = [step for step, _ in points], [value for _, value in points]
    across = ticks(min(min(steps), max(steps) - 1), max(steps), whole=True)
    figure.ruler("x", "lower").ticks(across, [f"{tick:g}" for tick in across])
    up = ticks(*bounds(values))
    figure.ruler("y", "left").ticks(up, [f"{tick:.6g}" for tick in up])
    figure.ruler("y", "left").lim(*bounds(values))
    for place, curve in enumerate(curves):
        if not curve:
            continue
        points = thinned(curve, 4 * size[0])
        ink = plotext.pixel(foreground=colour(place))
        steps, values = [step for step, _ in points], [value for _, value in points]
        drawn = figure.signal(steps, values, marker=plotext.marker("braille").fill(ink))
        figure.draw(drawn.lines(len(points) > 1))
        figure.draw(
            figure.text(
                steps[-1],
                values[-1],
                plotext.colorize(letters[place]).fill(ink),
                alignment="right",
            )
        )
    return figure.build().string(colorless=not coloured)
