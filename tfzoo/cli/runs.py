"""`tfzoo runs`: what was trained, at a glance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from tfzoo.cli.apply import Parser
from tfzoo.cli.complaints import nearest
from tfzoo.cli.places import short
from tfzoo.cli.tables import cell, number, of, plain, rows_of, show, state, table
from tfzoo.slurm.sweep import endings
from tfzoo.tracking.table import Row, lower_is_better, ranked


def runs(arguments: list[str]) -> None:
    """`tfzoo runs`: all runs under a folder in one table; of a sweep, with what varies."""
    parser = Parser(
        prog="tfzoo runs",
        description="The runs under a folder (of all, of an experiment, of a sweep), with their best and last metrics.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="(runs)")
    parser.add_argument("--sweep", metavar="ID", help="only the points of a sweep")
    parser.add_argument("--sort", metavar="METRIC", help="the best first")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_intermixed_args(arguments)
    rows = rows_of(options.folder)
    if options.sweep is not None:
        known = {row.sweep["id"] for row in rows if row.sweep}
        rows = [row for row in rows if row.sweep and row.sweep["id"] == options.sweep]
        if not rows:
            hint = nearest(options.sweep, known)
            raise ValueError(f"there is no sweep {options.sweep!r} in {options.folder}{hint}")
    rows.sort(key=lambda row: (row.run.experiment, _place(row), row.run.id))
    if options.sort:
        rows = _ranked(rows, options.sort)
    if options.json:
        print(json.dumps(plain([row.to_dict() for row in rows]), indent=2, ensure_ascii=False))
    elif not rows:
        print(f"no runs in {short(options.folder.absolute())}")
    else:
        _print_runs(rows, options.sort)


def _place(row: Row) -> tuple[str, int]:
    return (row.sweep["id"], row.sweep["index"]) if row.sweep else ("", 0)


def _ranked(rows: Sequence[Row], metric: str) -> list[Row]:
    known = {name for row in rows for name in row.figures.last}
    if rows and metric not in known:
        raise ValueError(f"no run has a metric {metric!r}{nearest(metric, known)}")
    return ranked(rows, metric)


def _print_runs(rows: Sequence[Row], sort: str | None) -> None:
    """A sweep by what varies; else by experiment and run."""
    sweeps = {row.sweep["id"] if row.sweep else None for row in rows}
    varying: dict[str, str] = {}
    if len(sweeps) == 1 and None not in sweeps:
        keys = list(dict.fromkeys(key for row in rows for key in row.point))
        varying = endings(keys)
    metrics = [sort] if sort else list(dict.fromkeys(row.main for row in rows if row.main))
    one = metrics[0] if len(metrics) == 1 else None
    several = len({row.run.experiment for row in rows}) > 1
    columns = [*(["experiment"] if several else []), *(varying.values() or ["run"])]
    best = [f"best {one}", f"last {one}"] if one else ["best", "last"]
    shown = table(
        *columns, "state", "step", "train/loss", *best, numbers=set(best) | set(varying.values())
    )
    for row in rows:
        names = [cell(row.point.get(key)) for key in varying] or [Text(row.run.id)]
        shown.add_row(
            *([Text(row.run.experiment)] if several else []),
            *names,
            state(row.state.word, row.state.why),
            of(row.figures.step, row.max_steps),
            number(row.figures.last.get("train/loss")),
            *_best_and_last(row, one),
        )
    if varying:
        (sweep,) = sweeps
        shown.title = f"{rows[0].run.experiment}, sweep {sweep}"
    show(shown)
    modes = {name: mode for row in rows for name, mode in row.modes.items()}
    lower = [metric for metric in metrics if lower_is_better(metric, modes)]
    if lower:
        print(f"lower is better: {', '.join(lower)}")


def _best_and_last(row: Row, metric: str | None) -> tuple[Text, Text]:
    name = metric or row.main
    if name is None:
        return Text("-"), Text("-")
    mark = "" if metric else f"{name} "
    best, last = row.figures.best.get(name), row.figures.last.get(name)
    return (
        Text(f"{mark}{best[0]:.4g} at {best[1]}" if best else "-"),
        Text(f"{mark}{last:.4g}" if last is not None else "-"),
    )
