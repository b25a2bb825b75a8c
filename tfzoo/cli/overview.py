"""`tfzoo jobs` and `tfzoo runs`: what was submitted and what was trained, at a glance."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfzoo.cli.apply import Parser
from tfzoo.cli.complaints import nearest
from tfzoo.cli.places import short
from tfzoo.slurm import queue
from tfzoo.slurm.sweep import endings
from tfzoo.tracking.state import job_of
from tfzoo.tracking.submitted import seconds
from tfzoo.tracking.table import Row, lower_is_better, ranked, scan

DAY = 24 * 3600
COLOURS = {
    "running": "green",
    "starting": "green",
    "failed": "red",
    "killed": "red",
    "queued": "yellow",
}


def jobs(arguments: list[str]) -> None:
    """`tfzoo jobs`: the SLURM jobs of this project, newest first, with the figures of their runs."""
    parser = Parser(
        prog="tfzoo jobs",
        description="The jobs of the runs in a folder, newest first: those that are not over, and of the last day.",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where all runs are kept")
    parser.add_argument("--all", action="store_true", help="older ones too")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args(arguments)
    rows = [row for row in _rows(options.runs) if row.circumstances.job or _earlier(row)]
    told = [one for row in rows for one in _jobs_of(row)]
    recent = [t for t in told if options.all or _is_recent(t)]
    recent.sort(key=lambda one: one["time"], reverse=True)
    if options.json:
        print(json.dumps(_plain(recent), indent=2, ensure_ascii=False))
    elif not recent:
        older = f" of the last day; --all shows {len(told)} older" if told else ""
        print(f"no jobs in {short(options.runs.absolute())}{older}")
    else:
        _print_jobs(recent)


def _jobs_of(row: Row) -> list[dict[str, Any]]:
    """The newest job of a run with the run's state and figures, and those before."""
    known = row.circumstances.known(row.queue)
    figures, main = row.figures, row.main
    entries = row.circumstances.entries
    job = row.circumstances.job
    own = [entry for entry in entries if job is not None and job_of(entry) == job]
    newest = {
        "job": job,
        "state": row.state.word,
        "why": row.state.why,
        "going": row.state.is_going,
        "time": max(row.time, seconds(own[0].get("started")) if own else 0.0),
        "used": known.used if known else _used(own),
        "nodes": known.nodes if known else _nodes(own),
        "run": str(row.run.folder),
        "step": figures.step,
        "max_steps": row.max_steps,
        "train/loss": figures.last.get("train/loss"),
        "metric": main,
        "best": figures.best[main][0] if main else None,
    }
    return [*([newest] if job else []), *_earlier(row)]


def _earlier(row: Row) -> list[dict[str, Any]]:
    """The jobs before the newest in which a run was trained."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in row.circumstances.entries:
        id = job_of(entry)
        if id is not None and id != row.circumstances.job:
            found.setdefault(id, []).append(entry)
    told = []
    for id, own in found.items():
        ended = own[-1].get("ended") or {}
        told.append(
            {
                "job": id,
                "state": ended.get("how", "killed"),
                "why": "",
                "going": False,
                "time": seconds(own[0].get("started")),
                "used": _used(own),
                "nodes": _nodes(own),
                "run": str(row.run.folder),
                "step": ended.get("step"),
                "max_steps": row.max_steps,
                "train/loss": None,
                "metric": None,
                "best": None,
            }
        )
    return told


def _used(entries: Sequence[Mapping[str, Any]]) -> str:
    """The time between the first entry and its last end, as SLURM writes it."""
    if not entries or not (ended := entries[-1].get("ended")):
        return ""
    spent = seconds(ended.get("time")) - seconds(entries[0].get("started"))
    return str(timedelta(seconds=max(0, round(spent))))


def _nodes(entries: Sequence[Mapping[str, Any]]) -> str:
    job = entries[-1].get("job") if entries else None
    return str((job or {}).get("nodes") or "")


def _is_recent(job: Mapping[str, Any]) -> bool:
    return job["going"] or time.time() - job["time"] < DAY


def _print_jobs(rows: Sequence[Mapping[str, Any]]) -> None:
    table = _table("job", "state", "time", "nodes", "run", "step", "train/loss", "best")
    for row in rows:
        best = f"{row['metric']} {row['best']:.4g}" if row["metric"] else ""
        table.add_row(
            Text(str(row["job"] or "-")),
            _state(row["state"], row["why"]),
            Text(row["used"]),
            Text(row["nodes"]),
            Text(short(Path(row["run"]))),
            _of(row["step"], row["max_steps"]),
            _number(row["train/loss"]),
            best,
        )
    _print(table)


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
    rows = _rows(options.folder)
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
        print(json.dumps(_plain([row.to_dict() for row in rows]), indent=2, ensure_ascii=False))
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
    table = _table(
        *columns, "state", "step", "train/loss", *best, numbers=set(best) | set(varying.values())
    )
    for row in rows:
        names = [_cell(row.point.get(key)) for key in varying] or [Text(row.run.id)]
        table.add_row(
            *([Text(row.run.experiment)] if several else []),
            *names,
            _state(row.state.word, row.state.why),
            _of(row.figures.step, row.max_steps),
            _number(row.figures.last.get("train/loss")),
            *_best_and_last(row, one),
        )
    if varying:
        (sweep,) = sweeps
        table.title = f"{rows[0].run.experiment}, sweep {sweep}"
    _print(table)
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


def _rows(root: Path) -> list[Row]:
    """All runs under a folder, with what SLURM says of those whose own word does not settle it."""
    rows = [Row(run) for run in scan(root)]
    asked = [
        row.circumstances.job for row in rows if row.state.word in ("unknown", "killed", "failed")
    ]
    try:
        known = queue.jobs(job for job in asked if job)
    except OSError as error:
        print(
            f"tfzoo: warning: {error}; states are told as the runs' folders know them",
            file=sys.stderr,
        )
        known = {}
    for row in rows:
        if known and row.state.word != "running":
            row.queue = known
            del row.state  # to be asked again
    return rows


def _table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    right = {"step", "time", "train/loss", *numbers}
    table = Table(title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    return table


def _print(table: Table) -> None:
    # Whoever reads a pipe wants whole lines.
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def _state(word: str, why: str) -> Text:
    return Text(f"{word} ({why})" if why else word, style=COLOURS.get(word, ""))


def _of(step: int | None, most: int | None) -> Text:
    if step is None:
        return Text("-")
    return Text(f"{step}/{most}" if most else str(step))


def _number(value: float | None) -> Text:
    return Text("-" if value is None else f"{value:.4g}")


def _cell(value: Any) -> Text:
    return Text(value if isinstance(value, str) else "-" if value is None else json.dumps(value))


def _plain(value: Any) -> Any:
    """As JSON can say it: what is no number is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
