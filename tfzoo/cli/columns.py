"""What can be told of runs in columns: what every run has, its metrics, and the settings of its config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.text import Text

from tfzoo.cli.complaints import nearest
from tfzoo.cli.tables import cell, number, of, state
from tfzoo.tracking.settings import ABSENT, settings
from tfzoo.tracking.table import Row


@dataclass(frozen=True)
class Column:
    """A name, the value that a run has under it (None where it has none), and how a table tells it.

    metric: the one whose value it is, where it is one's.
    """

    name: str
    value: Callable[[Row], Any]
    told: Callable[[Row], Text]
    right: bool = False
    metric: str | None = None
    is_setting: bool = False


def _plain(name: str, value: Callable[[Row], Any]) -> Column:
    return Column(name, value, lambda row: cell(value(row)))


def _number(name: str, value: Callable[[Row], Any], told: Callable[[Any], str]) -> Column:
    def text(row: Row) -> Text:
        found = value(row)
        return Text("-" if found is None else told(found))

    return Column(name, value, text, right=True)


def best(name: str = "best", metric: str | None = None) -> Column:
    """Of a metric, or of that which each run is judged by, the best value and after how many steps."""

    def value(row: Row) -> float | None:
        found = row.figures.best.get(metric or row.main or "")
        return found[0] if found else None

    def told(row: Row) -> Text:
        shown = metric or row.main or ""
        found = row.figures.best.get(shown)
        mark = "" if metric else f"{shown} "
        return Text(f"{mark}{found[0]:.4g} at {found[1]}" if found else "-")

    return Column(name, value, told, metric is not None, metric)


def last(name: str = "last", metric: str | None = None) -> Column:
    def value(row: Row) -> float | None:
        return row.figures.last.get(metric or row.main or "")

    def told(row: Row) -> Text:
        found = value(row)
        mark = "" if metric else f"{row.main} "
        return Text("-" if found is None else f"{mark}{found:.4g}")

    return Column(name, value, told, metric is not None, metric)


def _metric(name: str) -> Column:
    """Of validation and test the best, of training the last value."""

    def value(row: Row) -> float | None:
        found = row.figures.best.get(name)
        return found[0] if found else row.figures.last.get(name)

    return Column(name, value, lambda row: number(value(row)), True, name)


def _setting(name: str) -> Column:
    def value(row: Row) -> Any:
        found = row.setting(name)
        return None if found is ABSENT else "null" if found is None else found

    return Column(name, value, lambda row: cell(value(row)), is_setting=True)


def _speed(row: Row) -> Text:
    found = row.throughput
    return Text(f"{round(found[0]):,} {found[1]}/s" if found else "-")


def short_count(count: float) -> str:
    """1234567 as 1.23M."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{sign}"
    return f"{count:g}"


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


_KNOWN = (
    _plain("experiment", lambda row: row.run.experiment),
    _plain("run", lambda row: row.run.id),
    Column("state", lambda row: row.state.word, lambda row: state(row.state.word, row.state.why)),
    Column(
        "step", lambda row: row.figures.step, lambda row: of(row.figures.step, row.max_steps), True
    ),
    _plain("metric", lambda row: row.main),
    best(),
    last(),
    _number("parameters", lambda row: row.parameters, short_count),
    Column("speed", lambda row: row.throughput and row.throughput[0], _speed, True),
    _number("time", lambda row: row.seconds, duration),
    _plain("commit", lambda row: row.commit),
    _plain("started", lambda row: row.started),
    _plain("job", lambda row: row.circumstances.job),
    _plain("sweep", lambda row: row.sweep and row.sweep.get("id")),
    _plain("folder", lambda row: str(row.run.folder)),
)
KNOWN = {column.name: column for column in _KNOWN}


def column(name: str, rows: Sequence[Row]) -> Column:
    """The column of a name; `last:METRIC` and `best:METRIC` too.

    Raises ValueError, with the nearest name, where these runs know none such.
    """
    if name in KNOWN:
        return KNOWN[name]
    metrics = {metric for row in rows for metric in row.figures.last}
    which, _, rest = name.partition(":")
    if rest in metrics and which in ("best", "last"):
        return (best if which == "best" else last)(f"{which} {rest}", rest)
    if name in metrics:
        return _metric(name)
    key = ".".join(part for part in name.split(".") if part != "init_args")
    if any(row.setting(key) is not ABSENT for row in rows):
        return _setting(key)
    every = {row.run.experiment: row for row in rows}  # keys of one config of each will do
    keys = {known for row in every.values() for known in settings(row.run) or {}}
    hint = nearest(name, [*KNOWN, *metrics, *keys]) or f"; the columns are {', '.join(KNOWN)}"
    raise ValueError(f"no run has a column, metric or setting {name!r}{hint}")
