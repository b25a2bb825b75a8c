"""Models beside baselines: one table, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from tfzoo.baselines import Figure, Metric


class Comparison(NamedTuple):
    """One metric of one experiment on the test split.

    model: None where training failed; seconds: of all of `tfzoo fit`, data and validation too.
    """

    task: str
    corpus: str
    metric: Metric
    model: float | None
    baselines: Sequence[Figure]
    parameters: int | None = None
    seconds: float | None = None

    @property
    def verdict(self) -> str:
        if self.model is None:
            return "failed"
        lines = (f"{'beats' if self._beats(f) else 'not yet'} {f.baseline}" for f in self.baselines)
        return "\n".join(lines)

    def _beats(self, figure: Figure) -> bool:
        # As shown: a model is no better than a baseline that reads the same.
        model, other = round(self.model or 0.0, 2), round(figure.values["test"], 2)
        return model < other if self.metric.lower_is_better else model > other

    def cells(self) -> list[str]:
        return [
            self.task,
            self.corpus,
            self.metric.name,
            "-" if self.model is None else f"{self.model:.2f}",
            "\n".join(f"{f.baseline} {f.values['test']:.2f}" for f in self.baselines),
            "-" if self.parameters is None else f"{self.parameters:,}",
            "-" if self.seconds is None else f"{self.seconds:.0f}",
            self.verdict,
        ]


COLUMNS = ("task", "set", "metric", "model", "baselines", "parameters", "seconds", "verdict")
NUMBERS = {"model", "parameters", "seconds", "validation", "test"}


def terminal(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows of text as a table of rich."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in columns:
        table.add_column(column, justify="right" if column in NUMBERS else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a table of Markdown."""
    marks = ["---:" if column in NUMBERS else "---" for column in columns]
    whole = [[cell.replace("|", r"\|").replace("\n", "<br>") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, marks, *whole])


def notes(figures: Sequence[Figure]) -> list[str]:
    """What a reader must know of the metrics, a line each."""
    lines = [f"{f.metric.name}: {f.signature}" for f in figures if f.signature]
    lines += [f"{f.metric.name}: lower is better" for f in figures if f.metric.lower_is_better]
    return list(dict.fromkeys(lines))
