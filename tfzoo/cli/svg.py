"""Curves as a picture for a page: SVG that takes its colours from the page's style, and asks no one for anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tfzoo.tracking.readings import Curve, thinned

WIDTH, HEIGHT = 680, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 14, 40
MOST = 400
"""Points of a curve: more than a picture of this width can show."""
DOTS = 60
"""Up to so many points are drawn as dots too, which tell their values when pointed at."""


def chart(title: str, names: Sequence[str], letters: Sequence[str], curves: Sequence[Curve]) -> str:
    """The curves of one metric over steps; each is drawn in the class `run0`, `run1` and so on."""
    thin = [thinned(curve, MOST) for curve in curves]
    points = [point for curve in thin for point in curve]
    lowest, highest = bounds([value for _, value in points])
    last = max(step for step, _ in points)
    first = min(min(step for step, _ in points), last - 1)

    def x(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (highest - value) / (highest - lowest) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" role="img" aria-label="{escape(title)} over steps" viewBox="0 0 {WIDTH} {HEIGHT}">'
    ]
    for value in ticks(lowest, highest):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.6g}</text>'
        )
    for value in ticks(first, last, whole=True):
        parts.append(
            f'<text class="tick" x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:.6g}</text>'
        )
    parts.append(
        f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>'
    )
    for place, curve in enumerate(thin):
        if not curve:
            continue
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in curve)
        parts.append(f'<g class="run{place % 8}">')
        parts.append(f'<polyline points="{line}"><title>{escape(names[place])}</title></polyline>')
        for step, value in curve if len(curve) <= DOTS else ():
            parts.append(
                f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="3">'
                f"<title>{escape(f'{names[place]}: {value:.4g} at {step}')}</title></circle>"
            )
        step, value = curve[-1]
        parts.append(
            f'<text x="{x(step) + 6:.1f}" y="{y(value) + 4:.1f}">{escape(letters[place])}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Where an axis of such values begins and ends."""
    lowest, highest = min(values), max(values)
    room = 0.04 * (highest - lowest) or abs(highest) * 0.1 or 1.0
    return lowest - room, highest + room


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """A handful of round numbers between two others: 1, 2 or 5 times a power of ten apart; whole ones, if asked."""
    raw = max((high - low) / 5, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= raw)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [step * place for place in range(first, last + 1)]
