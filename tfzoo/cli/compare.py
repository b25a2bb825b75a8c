"""`tfzoo compare`: runs side by side, in the terminal and as a page that can be mailed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tfzoo.cli.apply import Parser
from tfzoo.cli.chart import chart, colour
from tfzoo.cli.compared import MARK, Compared, said
from tfzoo.cli.complaints import nearest
from tfzoo.cli.page import page
from tfzoo.cli.tables import show, table, width, with_jobs
from tfzoo.tracking.differences import Difference
from tfzoo.tracking.runs import Run, run_of, write_whole
from tfzoo.tracking.submitted import now
from tfzoo.tracking.table import Row, ranked, scan


def compare(arguments: list[str]) -> None:
    """`tfzoo compare RUN RUN ...`: what differs in their configs, their figures, and their curves."""
    parser = Parser(
        prog="tfzoo compare",
        description="What differs in the configs of runs, their figures side by side, and their curves.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run",
        nargs="+",
        help="folders of runs, or above them; or EXPERIMENT/ID, or ID, under --runs",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where all runs are kept")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        help="to draw; may be repeated (what the runs are judged by, and train/loss)",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="one self-contained page, with samples and pictures",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=12,
        metavar="N",
        help="side by side; of more, the best (12)",
    )
    options = parser.parse_intermixed_args(arguments)
    if options.most < 2:
        raise ValueError(f"--most must be at least 2, not {options.most}")
    found = list(dict.fromkeys(run for name in options.run for run in _runs(name, options.runs)))
    if len(found) < 2:
        known = f"only {found[0].folder}" if found else "none"
        raise ValueError(f"to compare takes two runs or more, and these are {known}")
    rows = [Row(run) for run in found]
    if len(rows) > options.most:
        rows = _best(rows, options.most, options.metric)
    compared = Compared(with_jobs(rows), options.metric)
    if options.html is not None:  # first, for what is printed may be read no further than its head
        content = page(compared, f"by tfzoo compare, {now()}").encode()
        write_whole(options.html, content)
    _tell(compared)
    if options.html is not None:
        print(f"page in {options.html}, {len(content) / 1e6:.1f} MB")


def _runs(name: str, root: Path) -> list[Run]:
    """The runs that are meant: a run, all below a folder, or the one of that id."""
    for path in (Path(name), root / name):
        if path.is_dir():
            if below := scan(path):
                return below
            try:
                return [run_of(path)]
            except ValueError:
                # Among what a shell makes of runs/experiment/* are folders that hold no run, or none yet.
                print(f"tfzoo: warning: {path} holds no run", file=sys.stderr)
                return []
        if path.exists():
            return [run_of(path)]
    known = scan(root) if root.is_dir() else []
    if one := [run for run in known if run.id == name]:
        return one
    names = [f"{run.experiment}/{run.id}" for run in known] + [run.id for run in known]
    raise ValueError(f"there is no run {name!r}, neither here nor in {root}{nearest(name, names)}")


def _best(rows: list[Row], most: int, metrics: Sequence[str]) -> list[Row]:
    """The best by the first metric asked for, or by the one that most of them are judged by; best first."""
    if metrics and not any(metrics[0] in {*row.figures.best, *row.figures.last} for row in rows):
        return rows  # which will be told
    mains = Counter(row.main for row in rows if row.main)
    by = metrics[0] if metrics else mains.most_common(1)[0][0] if mains else "val/loss"
    print(
        f"the {most} best of {len(rows)} runs by {by}; --most N compares more of them, tfzoo runs lists all\n"
    )
    return ranked(rows, by)[:most]


def _tell(compared: Compared) -> None:
    console = Console(width=width(), highlight=False)
    for place, (letter, name, row) in enumerate(
        zip(compared.letters, compared.names, compared.rows, strict=True)
    ):
        ink = f"color({colour(place)})"
        console.print(Text(f"{letter}  {name}", style=ink) + Text(f"  {row.state.told()}"))
    for note in compared.notes:
        console.print(Text(note, style="italic"))
    if compared.differences:
        _tell_differences("what differs in the configs", compared, compared.differences)
    elif sum(config is not None for config in compared.configs) > 1:
        print("\nthe configs say the same")
    if compared.circumstances:
        _tell_differences("what differs beside them", compared, compared.circumstances)
    _tell_lines(compared)
    size = (min(width(), 100), 18)
    for drawn in compared.charts:
        better = "lower is better" if drawn.lower else "higher is better"
        title = f"{drawn.metric} ({better})"
        print()
        coloured = console.is_terminal and not console.no_color
        print(chart(title, compared.letters, drawn.curves, size, coloured))


def _tell_differences(title: str, compared: Compared, found: Sequence[Difference]) -> None:
    shown = table("setting", *compared.letters)
    shown.title = title
    print()
    show(
        shown,
        [
            [Text(one.key) for one in found],
            *(
                [Text(said(one.values[place])) for one in found]
                for place in range(len(compared.rows))
            ),
        ],
    )


def _tell_lines(compared: Compared) -> None:
    shown = table("", *compared.letters)
    shown.title = f"figures ({MARK} the best)"
    columns = [[Text(line.name) for line in compared.lines]]
    for place in range(len(compared.rows)):
        columns.append(
            [
                Text(f"{line.cells[place]} {MARK}", style="bold green")
                if place in line.best
                else Text(line.cells[place])
                for line in compared.lines
            ]
        )
    print()
    show(shown, columns)
