"""`tfzoo jobs`: what was submitted, at a glance."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.text import Text

from tfzoo.cli.apply import Parser
from tfzoo.cli.places import short
from tfzoo.cli.tables import number, of, plain, rows_of, show, state, table
from tfzoo.tracking.state import job_of
from tfzoo.tracking.submitted import seconds
from tfzoo.tracking.table import Row

DAY = 24 * 3600


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
    rows = [row for row in rows_of(options.runs) if row.circumstances.job or _earlier(row)]
    told = [one for row in rows for one in _jobs_of(row)]
    recent = [t for t in told if options.all or _is_recent(t)]
    recent.sort(key=lambda one: one["time"], reverse=True)
    if options.json:
        print(json.dumps(plain(recent), indent=2, ensure_ascii=False))
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
        "used": known.used if known else _used(own, row.state.is_going),
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


def _used(entries: Sequence[Mapping[str, Any]], going: bool = False) -> str:
    """The time between the first entry and its last end, or now, as SLURM writes it."""
    ended = entries[-1].get("ended") if entries else None
    if not entries or not (ended or going):
        return ""
    until = seconds(ended.get("time")) if ended else time.time()
    spent = until - seconds(entries[0].get("started"))
    return str(timedelta(seconds=max(0, round(spent))))


def _nodes(entries: Sequence[Mapping[str, Any]]) -> str:
    job = entries[-1].get("job") if entries else None
    return str((job or {}).get("nodes") or "")


def _is_recent(job: Mapping[str, Any]) -> bool:
    return job["going"] or time.time() - job["time"] < DAY


def _print_jobs(rows: Sequence[Mapping[str, Any]]) -> None:
    shown = table("job", "state", "time", "nodes", "run", "step", "train/loss", "best")
    for row in rows:
        best = f"{row['metric']} {row['best']:.4g}" if row["metric"] else ""
        shown.add_row(
            Text(str(row["job"] or "-")),
            state(row["state"], row["why"]),
            Text(row["used"]),
            Text(row["nodes"]),
            Text(short(Path(row["run"]))),
            of(row["step"], row["max_steps"]),
            number(row["train/loss"]),
            best,
        )
    show(shown)
