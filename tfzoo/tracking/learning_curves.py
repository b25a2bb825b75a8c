"""Learning curves of a run, from its metrics.csv, with what simpler methods reach as lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfzoo.tracking.figures import Page, Picture
from tfzoo.tracking.readings import Curve, read_curves
from tfzoo.tracking.runs import Run, write_whole

Baselines = Mapping[str, Mapping[str, float]]
"""By metric, such as val/accuracy: what simpler methods reach, by their names."""


@dataclass(frozen=True, eq=False)
class CurvesPicture(Picture):
    """Loss in training and validation, the metric that decides, and whatever has baselines, by steps.

    curves: by metric; best: the metric that decides, and "min" or "max".
    """

    curves: Mapping[str, Curve]
    best: tuple[str, str]
    baselines: Baselines

    def page(self) -> Page:
        panels = self._panels()
        lines = max(len(metrics) + len(self.baselines.get(metrics[-1], ())) for metrics in panels)
        page = Page(
            self.name,
            self._told(),
            len(panels),
            (3.6, 2.4),
            left=0.35,
            top=0.25,
            bottom=0.45 + 0.16 * lines,
            gap=0.65,
            right=0.1,
            across=min(3, len(panels)),
        )
        for index, metrics in enumerate(panels):
            axes = page.panel(index, metrics[-1].partition("/")[2].replace("_", " "))
            for metric in metrics:
                self._draw(axes, metric)
            styles = ["--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))]
            for number, (name, value) in enumerate(self.baselines.get(metrics[-1], {}).items()):
                style: Any = styles[number % len(styles)]
                label = f"{name} {value:.4g}"
                axes.axhline(value, color="0.35", linewidth=1, linestyle=style, label=label)
            page.ticks(axes, "step")
            axes.legend(
                fontsize=7,
                frameon=False,
                loc="upper left",
                bbox_to_anchor=(-0.05, -0.15),
                handlelength=2.6,
            )
        return page

    def _panels(self) -> list[list[str]]:
        """The metrics of each panel."""
        loss = [metric for metric in ("train/loss", "val/loss") if metric in self.curves]
        others = [self.best[0], *self.baselines]
        others = [m for m in dict.fromkeys(others) if m in self.curves and m not in loss]
        return ([loss] if loss else []) + [[metric] for metric in others]

    def _draw(self, axes: Any, metric: str) -> None:
        steps, values = map(list, zip(*self.curves[metric], strict=True))
        training = metric.startswith("train/")
        color = "#8c8c8c" if training else "#1f5fa8"
        shown = {"color": color, "label": metric, "linewidth": 1.2}
        if training and len(values) > 50:
            # Of a noisy curve the course counts.
            axes.plot(steps, values, color=color, linewidth=0.5, alpha=0.35)
            values = smooth(values)
        few = not training and len(values) <= 40
        axes.plot(steps, values, marker="o" if few else None, markersize=2.5, **shown)
        if metric == self.best[0] and (found := self._best()) is not None:
            style = {"color": "#c8451b", "markersize": 8, "linestyle": "none"}
            axes.plot(*found, marker="*", label=f"best {found[1]:.4g}, step {found[0]}", **style)

    def _best(self) -> tuple[int, float] | None:
        finite = [point for point in self.curves.get(self.best[0], ()) if math.isfinite(point[1])]
        choose = min if self.best[1] == "min" else max
        return choose(finite, key=lambda point: point[1], default=None)

    def _told(self) -> str:
        found = self._best()
        return "" if found is None else f"best {self.best[0]} {found[1]:.4g} after {found[0]} steps"


def learning_curves(run: Run, best: tuple[str, str]) -> CurvesPicture | None:
    """The picture of what a run has logged so far; None where there is no curve yet."""
    baselines = read_baselines(run)
    shown = {"train/loss", "val/loss", best[0], *baselines}
    curves = read_curves(run.metrics_file, shown, gaps=True)
    if not curves:
        return None
    return CurvesPicture("learning-curves", curves, best, baselines)


def smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """The exponential moving average, not drawn to zero at the beginning (Kingma and Ba 2015)."""
    found, mean, total = [], 0.0, 0.0
    for value in values:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        found.append(mean / total)
    return found


def write_baselines(run: Run, baselines: Baselines) -> None:
    """Keep in the run's folder what its curves are to be seen beside."""
    text = json.dumps(baselines, indent=2, ensure_ascii=False) + "\n"
    write_whole(run.folder / "baselines.json", text.encode("utf-8"))


def read_baselines(run: Run) -> dict[str, dict[str, float]]:
    """Those in the run's folder; what is none is left out, for a person may have written it."""
    try:
        found = json.loads((run.folder / "baselines.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        metric: {str(n): float(v) for n, v in lines.items() if isinstance(v, int | float)}
        for metric, lines in found.items()
        if isinstance(lines, dict)
    }
