"""A comparison of runs as one page that can be mailed: no script, no file beside it, no request to anyone."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from tfzoo.cli.compared import Compared, said
from tfzoo.cli.style import style
from tfzoo.cli.svg import chart
from tfzoo.tracking.differences import Difference
from tfzoo.tracking.drawn import latest
from tfzoo.tracking.samples import read_table

BEST = ' class="best"'


def page(compared: Compared, about: str) -> str:
    """The whole page. about: where it came from, a line."""
    title = "Comparison of " + ", ".join(compared.names)
    sections = [
        f"<h1>{len(compared.rows)} runs compared</h1>",
        _runs(compared),
        *(f'<p class="note">{escape(note)}</p>' for note in compared.notes),
        "<h2>Curves</h2>",
        *_curves(compared),
        "<h2>Differences of the configs</h2>",
        _differences(compared, compared.differences, "differences")
        or '<p class="note" id="differences">The configs say the same.</p>',
        *_circumstances(compared),
        "<h2>Figures</h2>",
        _lines(compared),
        *_samples(compared),
        *_pictures(compared),
        f'<p class="note">{escape(about)}</p>',
    ]
    body = "\n".join(sections)
    # What is not in the page is not looked for, whatever a run has put into it.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style()}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _runs(compared: Compared) -> str:
    rows = [
        [letter, name, row.state.told()]
        for letter, name, row in zip(compared.letters, compared.names, compared.rows, strict=True)
    ]
    cells = (
        f'<tr><th class="run{place % 8}">{escape(letter)}</th><td>{escape(name)}</td><td>{escape(state)}</td></tr>'
        for place, (letter, name, state) in enumerate(rows)
    )
    return f'<table id="runs">{"".join(cells)}</table>'


def _curves(compared: Compared) -> list[str]:
    told = []
    for drawn in compared.charts:
        better = "lower" if drawn.lower else "higher"
        head = f'<h3>{escape(drawn.metric)} <span class="note">({better} is better)</span></h3>'
        picture = chart(drawn.metric, compared.names, compared.letters, drawn.curves)
        told.append(f"<div>{head}{picture}</div>")
    if not told:
        return ['<p class="note">No metrics yet.</p>']
    return ['<div class="side">', *told, "</div>"]


def _differences(compared: Compared, found: Sequence[Difference], id: str) -> str:
    if not found:
        return ""
    rows = ((one.key, *map(said, one.values)) for one in found)
    return _table(["", *compared.letters], rows, id)


def _circumstances(compared: Compared) -> list[str]:
    table = _differences(compared, compared.circumstances, "circumstances")
    return ["<h2>Differences beside the configs</h2>", table] if table else []


def _lines(compared: Compared) -> str:
    head = "".join(f"<th>{escape(letter)}</th>" for letter in compared.letters)
    rows = []
    for line in compared.lines:
        cells = (
            f"<td{BEST if place in line.best else ''}>{escape(cell)}</td>"
            for place, cell in enumerate(line.cells)
        )
        rows.append(f"<tr><th>{escape(line.name)}</th>{''.join(cells)}</tr>")
    return f'<div class="wide"><table id="figures"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _samples(compared: Compared) -> list[str]:
    """Side by side: what all runs show alike once, then what each of them made of it."""
    found = [latest(row.run, ".md").get("samples") for row in compared.rows]
    tables = [read_table(file) if file else ([], []) for file in found]
    if not any(rows for _, rows in tables):
        return []
    (columns, first), *others = tables
    if all(head == columns and len(rows) == len(first) for head, rows in others):
        alike = [
            column
            for column in range(len(columns))
            if all(
                row[column] == one[column]
                for _, rows in others
                for row, one in zip(rows, first, strict=True)
            )
        ]
        own = [column for column in range(len(columns)) if column not in alike]
        head = [columns[c] for c in alike] + [
            f"{letter}: {columns[c]}" for letter in compared.letters for c in own
        ]
        rows = [
            [first[place][c] for c in alike] + [table[place][c] for _, table in tables for c in own]
            for place in range(len(first))
        ]
        return ["<h2>Samples</h2>", _table(head, rows, "samples")]
    sides = (
        f"<div><h3>{escape(letter)}</h3>{_table(head, rows, '')}</div>"
        for letter, (head, rows) in zip(compared.letters, tables, strict=True)
        if rows
    )
    return ["<h2>Samples</h2>", f'<div class="side" id="samples">{"".join(sides)}</div>']


def _pictures(compared: Compared) -> list[str]:
    """The newest of each kind, of all runs that have one."""
    found = [latest(row.run, ".png") for row in compared.rows]
    told = []
    for kind in sorted({kind for one in found for kind in one}):
        figures = []
        for letter, name, files in zip(compared.letters, compared.names, found, strict=True):
            if (data := _picture(files.get(kind))) is not None:
                file = files[kind].stem
                caption = f"{letter}  {name}, {file}"
                figures.append(
                    f'<figure><img alt="{escape(f"{kind} of {name}")}" src="data:image/png;base64,{data}">'
                    f"<figcaption>{escape(caption)}</figcaption></figure>"
                )
        if figures:
            told += [f"<h3>{escape(kind)}</h3>", f'<div class="side">{"".join(figures)}</div>']
    return ["<h2>Pictures</h2>", *told] if told else []


def _picture(file: Path | None) -> str | None:
    """A PNG in base64; None where there is none, or not all of it."""
    try:
        content = file.read_bytes() if file else b""
    except OSError:
        return None
    whole = content.startswith(b"\x89PNG") and b"IEND" in content[-12:]
    return b64encode(content).decode() if whole else None


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], id: str) -> str:
    name = f' id="{id}"' if id else ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table{name}><tr>{top}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    """Lines of text may be many, of a network that has learned little: they scroll."""
    return f"<td><div>{escape(text)}</div></td>" if "\n" in text else f"<td>{escape(text)}</td>"
