"""`tfzoo runs`: what was trained, at a glance, the best first."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.text import Text

from tfzoo.cli import filters
from tfzoo.cli.apply import Parser
from tfzoo.cli.columns import KNOWN, Column, best, column, last
from tfzoo.cli.complaints import nearest
from tfzoo.cli.places import short
from tfzoo.cli.tables import cell, plain, rows_of, show, table, width
from tfzoo.slurm.axes import split
from tfzoo.slurm.sweep import endings
from tfzoo.tracking.readings import lower_is_better
from tfzoo.tracking.table import Row, ranked


def runs(arguments: list[str]) -> None:
    """`tfzoo runs`: all runs under a folder in one ranked table; of a sweep, with what varies."""
    parser = Parser(
        prog="tfzoo runs",
        description="The runs under a folder (of all, of an experiment, of a sweep), with their best and last metrics. "
        "Those of an experiment are ranked by the metric that they are judged by.",
        epilog=f"columns: {', '.join(KNOWN)}; a metric (val/loss: the best, train/loss: the last), best:METRIC, "
        f"last:METRIC; a setting of the config (model.backbone.depth). {filters.__doc__}",
        allow_abbrev=False,
        formatter_class=argparse.HelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="(runs)")
    parser.add_argument("--sweep", metavar="ID", help="only the points of a sweep")
    parser.add_argument("--sort", metavar="COLUMN", help="of a metric the best first")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--filter",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        help="only runs of which that holds; also != < <= > >=; may be repeated",
    )
    parser.add_argument(
        "--columns", metavar="A,B,...", help="these; with a + before the first: these too"
    )
    parser.add_argument("--json", action="store_true", help="all that is known, as JSON")
    parser.add_argument("--csv", action="store_true", help="the table as CSV, in plain numbers")
    options = parser.parse_intermixed_args(arguments)
    if options.json and options.csv:
        raise ValueError("--json and --csv are two forms of the same: choose one")
    rows = found = rows_of(options.folder)
    if options.sweep is not None:
        rows = _of_sweep(rows, options.sweep, options.folder)
    asked = [column(name, rows) for name in _names(options.columns)] if rows else []
    rows = filters.chosen(rows, options.filter)
    rows = _sorted(rows, options.sort, options.reverse, found)
    if options.json:
        print(json.dumps(plain([_told(row, asked) for row in rows]), indent=2, ensure_ascii=False))
    elif options.csv:
        more = (options.columns or "+").startswith("+")
        _write_csv(rows, [*((KNOWN[name] for name in _CSV) if more else ()), *asked])
    elif not rows:
        those = " that match" if found else ""
        print(f"no runs in {short(options.folder.absolute())}{those}")
    elif asked and not options.columns.startswith("+"):
        _print(rows, asked, [])
    else:
        _print_usual(rows, options.sort, asked)


def _names(said: str | None) -> list[str]:
    names = split((said or "").lstrip("+"))
    if said is not None and not all(names):
        raise ValueError(f"--columns takes names with commas between them, not {said!r}")
    return names if said else []


def _of_sweep(rows: Sequence[Row], id: str, folder: Path) -> list[Row]:
    known = {row.sweep["id"] for row in rows if row.sweep}
    if id not in known:
        raise ValueError(f"there is no sweep {id!r} in {folder}{nearest(id, known)}")
    return [row for row in rows if row.sweep and row.sweep["id"] == id]


def _sorted(
    rows: Sequence[Row], name: str | None, reverse: bool, known: Sequence[Row]
) -> list[Row]:
    """By a column, those without a value at the end; by none, each experiment's by what its runs are judged by."""
    if name is None:
        groups = groupby(rows, key=lambda row: row.run.experiment)
        order = [row for _, group in groups for row in _judged(list(group))]
        return order[::-1] if reverse else order
    by = column(name, known) if known else None
    if by is None:
        return []
    with_value = [row for row in rows if not _is_missing(by.value(row))]
    if by.metric is not None and not by.name.startswith("last "):
        order = ranked(with_value, by.metric)
    elif by.metric is not None:
        lower = any(lower_is_better(by.metric, row.modes) for row in with_value)
        order = sorted(with_value, key=by.value, reverse=not lower)
    elif by.name in ("best", "last"):
        order = [row for row in _sorted(rows, None, False, known) if row in with_value]
    else:
        order = sorted(with_value, key=lambda row: _order(by.value(row)))
    without = [row for row in rows if row not in order]
    return [*(order[::-1] if reverse else order), *without]


def _judged(rows: list[Row]) -> list[Row]:
    metrics = Counter(row.main for row in rows if row.main)
    return ranked(rows, metrics.most_common(1)[0][0]) if metrics else rows


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers before texts."""
    is_number = isinstance(value, int | float)
    return (not is_number, value if is_number else str(value))


def _print_usual(rows: Sequence[Row], sort: str | None, more: Sequence[Column]) -> None:
    """A sweep by what varies; else by experiment and run."""
    sweeps = {row.sweep["id"] if row.sweep else None for row in rows}
    varying: dict[str, str] = {}
    if len(sweeps) == 1 and None not in sweeps:
        varying = endings(list(dict.fromkeys(key for row in rows for key in row.point)))
    metrics = list(dict.fromkeys(row.main for row in rows if row.main))
    if sort and (by := column(sort, rows).metric):
        metrics = [by]
    one = metrics[0] if len(metrics) == 1 else None
    several = len({row.run.experiment for row in rows}) > 1
    first = [*([KNOWN["experiment"]] if several else []), *map(_varying, varying, varying.values())]
    judged = (
        [best(f"best {one}", one), last(f"last {one}", one)]
        if one
        else [KNOWN["best"], KNOWN["last"]]
    )
    loss = Column(
        "train/loss",
        lambda row: row.figures.last.get("train/loss"),
        last("", "train/loss").told,
        right=True,
    )
    shown = [*first, *([] if varying else [KNOWN["run"]]), KNOWN["state"], KNOWN["step"], loss]
    shown += [*judged, *more, *(KNOWN[name] for name in ("parameters", "speed", "time", "commit"))]
    title = ""
    if varying:
        (sweep,) = sweeps
        title = f"{rows[0].run.experiment}, sweep {sweep}"
    _print(rows, shown, [c.name for c in shown if c not in more][-5:], title)
    modes = {name: mode for row in rows for name, mode in row.modes.items()}
    lower = [metric for metric in metrics if lower_is_better(metric, modes)]
    if lower:
        print(f"lower is better: {', '.join(lower)}")


def _varying(key: str, name: str) -> Column:
    return Column(
        name, lambda row: row.point.get(key), lambda row: cell(row.point.get(key)), right=True
    )


def _print(
    rows: Sequence[Row], columns: Sequence[Column], spare: Sequence[str], title: str = ""
) -> None:
    """As a table; of columns that may be spared, the last ones are left out where the terminal is too narrow."""
    kept = list(columns)
    cells = {c.name: [c.told(row) for row in rows] for c in columns}
    needed = {c.name: max(len(c.name), *map(_width, cells[c.name])) + 3 for c in columns}
    left_out: list[str] = []
    for name in reversed(spare):
        if sum(needed[c.name] for c in kept) + 1 > width():
            left_out.insert(0, name)
            kept = [c for c in kept if c.name != name]
    shown = table(*(c.name for c in kept), numbers=[c.name for c in kept if c.right])
    shown.title = title or None
    show(shown, [cells[c.name] for c in kept])
    if left_out:
        print(f"not shown for want of room: {', '.join(left_out)} (--columns, --csv)")


def _width(text: Text) -> int:
    return text.cell_len


_CSV = [*KNOWN]


def _write_csv(rows: Iterable[Row], columns: Sequence[Column]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([c.name for c in columns])
    for row in rows:
        writer.writerow([_raw(c.value(row)) for c in columns])


def _raw(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(plain(value), ensure_ascii=False)


def _told(row: Row, asked: Sequence[Column]) -> dict[str, Any]:
    more = {"columns": {c.name: c.value(row) for c in asked}} if asked else {}
    return row.to_dict() | more
