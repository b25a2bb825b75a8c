"""All that a run's folder tells, as trackio's records, whether or not it was logged for the dashboard.

The figures are those of metrics.csv, pictures those of figures/, settings those of config.yaml; what `TrackioLogger`
wrote adds when they came and whatever lies nowhere else. So runs that were trained without the extra, on a cluster, or
with the logger for a part of their life only are shown like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tfzoo.tracking.drawn import kind_and_step
from tfzoo.tracking.readings import read_rows
from tfzoo.tracking.records import Record, folder_of, plain, read
from tfzoo.tracking.runs import Run
from tfzoo.tracking.samples import read_table
from tfzoo.tracking.settings import without_blanks, without_places
from tfzoo.tracking.state import Circumstances

PICTURES = (".png", ".jpg", ".jpeg")
PASSING = ("started", "ended", "pace", "command", "directory", "job", "resumed", "best")
"""Circumstances that differ between any two lives of a run."""


def name_of(run: Run) -> str:
    """What a run is called in the dashboard; its folder's names, so that a copy is another run."""
    return f"{run.experiment}/{run.id}"


def media_folders(run: Run) -> list[Path]:
    """The only folders of a run of which a browser may ask for files."""
    here = run.folder.resolve()  # a link may lead anywhere
    folders = [run.figures, folder_of(run) / "media"]
    return [folder for folder in folders if folder.resolve().is_relative_to(here)]


def stamp(run: Run) -> tuple[Any, ...]:
    """Differs where what `gathered` returns may."""
    files = [folder_of(run) / "records.jsonl", run.metrics_file, run.config_file, run.figures]
    states = [file.stat() if file.exists() else None for file in files]
    return tuple(state and (state.st_mtime_ns, state.st_size) for state in states)


def gathered(run: Run) -> list[Record]:
    """The records of a run, each metric and picture of a step once; files lie under the run's `name_of`.

    A run that is being written, or was killed, or whose files are damaged, gives what is whole.
    """
    logged = [_harmless(record) for record in read(folder_of(run) / "records.jsonl")]
    numbers = [record for record in logged if _is_row(record)]
    redrawn = _redrawn(run)
    media = _last_of_each([record for record in logged if not _is_row(record)], redrawn)
    # A training that went on without the logger has rewound metrics.csv alone.
    lives = Circumstances(run).entries
    times = {_what(record): record["timestamp"] for record in numbers}
    rows = _rows(run, times, lives)
    rows += _beside(rows, numbers)
    seen = {what for record in media for what in _each(record)}
    redrawn &= {key for record in media for key in record["metrics"]}
    # Rows are numbered by the step that they end, from 0; pictures by how many were done.
    steps = [record["step"] + 1 for record in rows] + [record["step"] for record in media]
    last = max(steps, default=0)
    files = [
        record
        for record in _figures(run, last)
        if not seen & set(_each(record)) and not redrawn & record["metrics"].keys()
    ]
    found = [record for record in [*rows, *media, *files] if record["metrics"]]
    if not found:
        return []  # trackio knows no run without a row
    found.sort(key=lambda record: record["step"])
    config = _config(run, logged, lives[-1:])
    began = min(record["timestamp"] for record in found)
    project = next((record["project"] for record in logged if record["project"]), "tfzoo")
    name = name_of(run)
    shared = {"kind": "metric", "project": project, "run": name, "run_id": name, "config": None}
    for record in found:
        record |= shared
        if not _is_row(record):
            record["metrics"] = _placed(record["metrics"], name)
        record["log_id"] = _name(record)
    # In the first, as trackio does it.
    found[0]["config"] = config | {"_Group": run.experiment, "_Created": began}
    return found


def _name(record: Record) -> str:
    """The same for the same content, so that what is in the database already is known again."""
    content = json.dumps([record["run"], record["step"], record["metrics"]])
    return hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()


def _harmless(record: Record) -> Record:
    """Of a record that somebody else may have written, what the dashboard shows as text, number or picture."""
    kept = {key: _known(value) for key, value in record["metrics"].items()}
    return {
        "metrics": {key: value for key, value in kept.items() if value is not None},
        "step": record["step"],
        "timestamp": str(record.get("timestamp") or _time(0)),
        "project": record.get("project") if isinstance(record.get("project"), str) else None,
        "config": record["config"] if isinstance(record.get("config"), dict) else None,
    }


def _known(value: Any) -> Any:
    """None where it is neither; trackio would show HTML, or follow an address, that a record holds."""
    if isinstance(value, dict):
        if value.get("_type") == "trackio.image":
            return {"_type": "trackio.image"} | {
                key: str(value[key]) for key in ("file_path", "caption") if value.get(key)
            }
        if value.get("_type") == "trackio.table" and isinstance(value.get("_value"), list):
            rows = [row for row in value["_value"] if isinstance(row, dict)]
            return {
                "_type": "trackio.table",
                "_value": [{k: _known(cell) for k, cell in row.items()} for row in rows],
            }
        return None
    return value if isinstance(value, str | int | float) else None


def _is_row(record: Record) -> bool:
    """Whether these are numbers, and not pictures or tables."""
    return not any(isinstance(value, dict) for value in record["metrics"].values())


def _what(record: Record) -> tuple[int, frozenset[str]]:
    return record["step"], frozenset(record["metrics"])


def _each(record: Record) -> list[tuple[str, int]]:
    return [(key, record["step"]) for key in record["metrics"]]


def _last_of_each(records: list[Record], redrawn: set[str]) -> list[Record]:
    """Without pictures that were drawn again: a validation that a kill cut short is done once more, curves grow."""
    found = list({_what(record): record for record in records}.values())
    newest = {key: record["step"] for record in found for key in record["metrics"]}
    return [
        r for r in found if all(newest[key] == r["step"] for key in redrawn & r["metrics"].keys())
    ]


def _redrawn(run: Run) -> set[str]:
    """The pictures that lie in one file without a step, whatever it showed when they were logged."""
    names = map(kind_and_step, run.figures.glob("*.*"))
    return {kind for kind, step in names if step is None}


def _rows(
    run: Run,
    times: Mapping[tuple[int, frozenset[str]], str],
    lives: Sequence[Mapping[str, Any]],
) -> list[Record]:
    """The rows of metrics.csv, which knows no times: where nobody else does, they are spread from start to end."""
    lines = list(read_rows(run.metrics_file))
    ended = run.metrics_file.stat().st_mtime if lines else 0.0
    began = min(_began(run, lives), ended)
    found = []
    for number, (step, figures) in enumerate(lines, start=1):
        row: Record = {"metrics": plain(figures), "step": step}
        spread = began + (ended - began) * number / len(lines)
        found.append(row | {"timestamp": times.get(_what(row)) or _time(spread)})
    return found


def _beside(rows: Sequence[Record], numbers: Sequence[Record]) -> list[Record]:
    """Of what was logged for the dashboard, all where there is no metrics.csv; else what that never takes: speed.

    Of steps that were taken back, as metrics.csv knows, nothing.
    """
    if not rows:
        return list(numbers)
    end = max(row["step"] for row in rows)
    return [
        record
        for record in numbers
        if record["step"] <= end and all(key.startswith("throughput/") for key in record["metrics"])
    ]


def _began(run: Run, lives: Sequence[Mapping[str, Any]]) -> float:
    try:
        return datetime.fromisoformat(lives[0]["started"]).timestamp()
    except (ValueError, LookupError, TypeError):
        files = [file for file in (run.config_file, run.metrics_file) if file.exists()]
        return min((file.stat().st_mtime for file in files), default=0.0)


def _figures(run: Run, last: int) -> Iterator[Record]:
    """What lies in figures/ as NAME-stepNUMBER; a file without a number is of the last step."""
    for file in sorted(run.figures.glob("*")):
        key, step = kind_and_step(file)
        try:
            time = file.stat().st_mtime
            if file.suffix.lower() in PICTURES:
                value: Any = {"_type": "trackio.image", "file_path": f"figures/{file.name}"}
            elif file.suffix == ".md" and (table := _table(file)):
                value = {"_type": "trackio.table", "_value": table}
            else:
                continue
        except OSError:
            continue
        step = last if step is None else step
        yield {"metrics": {key: value}, "step": step, "timestamp": _time(time)}


def _table(file: Path) -> list[dict[str, str]]:
    columns, rows = read_table(file)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _config(run: Run, logged: list[Record], latest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """config.yaml, with what only the logger was told, and the circumstances that may matter; nothing that is unset."""
    told: dict[str, Any] = next((r["config"] for r in reversed(logged) if r["config"]), {})
    try:
        with run.config_file.open(encoding="utf-8") as file:
            config = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        config = None
    merged = told | (config if isinstance(config, dict) else {})
    # Keys that begin with _ are trackio's own.
    kept = without_places(merged).items()
    shown = {key: value for key, value in kept if not str(key).startswith("_")}
    for life in latest:
        shown["provenance"] = {key: v for key, v in life.items() if key not in PASSING}
    return plain(without_blanks(shown))


def _placed(value: Any, folder: str) -> Any:
    """With the paths of files, which are those of the run's folder, under the folder of all runs."""
    if isinstance(value, dict):
        if value.get("_type") == "trackio.image":
            return value | {"file_path": f"{folder}/{value.get('file_path', '')}"}
        return {key: _placed(item, folder) for key, item in value.items()}
    return [_placed(item, folder) for item in value] if isinstance(value, list) else value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
