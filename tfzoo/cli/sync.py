"""`tfzoo sync`: uploads the W&B runs that were written offline."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

from tfzoo.cli.apply import Parser
from tfzoo.cli.places import short
from tfzoo.tracking.lock import holder
from tfzoo.tracking.runs import Run, check_writable
from tfzoo.tracking.sync import Fragment, Sent, check_server, fragments, send, sending, waiting
from tfzoo.tracking.table import scan


def sync(arguments: list[str]) -> None:
    """`tfzoo sync [RUNS or RUN ...]`: sends what is not sent yet, run by run, and says what it sent."""
    parser = Parser(
        prog="tfzoo sync",
        description="Upload the W&B runs that were written offline: what was not sent before, or has grown since. "
        "A run that trains at the moment is left for later.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[Path("runs")],
        metavar="RUNS or RUN",
        help="folders of runs, of an experiment, or of a run (runs)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    options = parser.parse_intermixed_args(arguments)
    runs = sorted({run for folder in options.folders for run in scan(folder)})
    idle = [run for run in runs if fragments(run) and not _is_in_use(run)]
    due = {run: some for run in idle if (some := waiting(run))}
    if options.dry_run:
        for run, some in due.items():
            print(f"would send {_name(run)}: {_many(some)}, {decimal(sum(f.size for f in some))}")
    elif due:
        check_server()
        _send(due)
    if not due:
        offline = [run for run in runs if fragments(run)]
        print(
            "nothing to send: "
            + ("all was sent before" if idle else _why_none(runs, bool(offline)))
        )


def _why_none(runs: Iterable[Run], offline: bool) -> str:
    if offline:
        return "the runs are in use"
    return "no run was written offline" if list(runs) else "there are no runs"


def _is_in_use(run: Run) -> bool:
    if (found := holder(run)) is None:
        return False
    print(f"{_name(run)} is left for later: in use by {found.told()}", file=sys.stderr)
    return True


def _send(due: Iterable[Run]) -> None:
    """Raises ValueError in the end naming the runs that could not be sent; the others were."""
    failed: list[str] = []
    for run in due:
        sent: list[Sent] = []
        try:
            check_writable(run)  # else what was sent could not be noted, and would be sent again
            with sending(run):
                _send_run(run, waiting(run), sent)
        except Timeout:
            print(f"{_name(run)} is left out: another tfzoo sync sends it now", file=sys.stderr)
        except (ValueError, OSError) as error:
            failed.append(str(error))
        sent = [one for one in sent if one.bytes]
        if sent:
            steps = [one.step for one in sent if one.step is not None]
            until = f" to step {max(steps) + 1}" if steps else ""
            many, size = _many(sent), decimal(sum(one.bytes for one in sent))
            rows = sum(one.rows for one in sent)
            print(f"{_name(run)}: {many}, {rows} rows{until}, {size}, {sent[-1].address}", flush=True)  # fmt: skip
    if failed:
        raise ValueError("; ".join(failed))


def _send_run(run: Run, some: Sequence[Fragment], sent: list[Sent]) -> None:
    """In their order, for each is appended to what the server has of the run; `sent` grows by what it took."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:  # fmt: skip
        task = bar.add_task(_name(run), total=sum(fragment.size for fragment in some))
        for fragment in some:
            size = fragment.size
            sent.append(send(run, fragment))
            bar.advance(task, size)


def _name(run: Run) -> str:
    return short(run.folder)


def _many(some: Sequence[object]) -> str:
    return "1 fragment" if len(some) == 1 else f"{len(some)} fragments"
