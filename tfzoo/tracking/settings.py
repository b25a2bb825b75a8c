"""The config of a run as flat settings, by dotted key: all of them, or one without reading the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tfzoo.tracking.runs import Run

ABSENT = object()
"""What a config does not hold."""


_PLACES = {"config", "ckpt_path", "experiment", "runs", "run_id", "default_root_dir", "logger"}


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config less where its run lies and who is told, by which no two are compared."""
    kept = {key: value for key, value in config.items() if key not in _PLACES}
    if isinstance(trainer := kept.get("trainer"), Mapping):
        kept["trainer"] = {key: value for key, value in trainer.items() if key not in _PLACES}
    return kept


def without_blanks(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys, at any depth, that are None: nobody compares runs by what was not set."""
    return {key: _without_blanks(value) for key, value in config.items() if value is not None}


def _without_blanks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_blanks(value)
    return [_without_blanks(one) for one in value] if isinstance(value, list | tuple) else value


def settings(run: Run) -> dict[str, Any] | None:
    """All settings of a run; None where its config is not there, is not whole, or is no config.

    A class stands under the key of its place, by its short name, and its arguments below without `init_args`:
    `model: Generation`, `model.backbone.depth: 4`. Of a list of classes each has a key of its own:
    `trainer.callbacks.Last: true`, `trainer.callbacks.Last.keep: 2`.
    """
    config = _loaded(_text(run))
    return dict(_flat(config)) if isinstance(config, dict) and config else None


def setting(run: Run, key: str) -> Any:
    """One of them, or ABSENT. Most of the file is passed over: to parse it takes a hundred times as long."""
    text = _text(run)
    block, depth = _narrowed(text, key.split("."))
    parts = key.split(".")[max(0, depth - 1) :]
    found = _loaded(block)
    if found is None and depth:  # it refers to something elsewhere in the file
        found, parts = _loaded(text), key.split(".")
    return dict(_flat(found)).get(".".join(parts), ABSENT) if isinstance(found, dict) else ABSENT


def _text(run: Run) -> str:
    try:
        return run.config_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _loaded(text: str) -> Any:
    """None where it is no YAML, as a file that was cut short may be."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError):
        return None


# Written in C, and as safe as the other; not every build of PyYAML has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _narrowed(text: str, parts: Sequence[str]) -> tuple[str, int]:
    """The lines of the innermost of nested keys that could be found, and how many of the keys that was."""
    for depth, part in enumerate(parts):
        indent = len(text) - len(text.lstrip(" ")) if depth == 0 else _indent_below(text)
        inner = None if indent is None else _block(text, part, indent)
        if inner is None and depth and indent is not None:
            arguments = _block(text, "init_args", indent)
            deeper = arguments and _indent_below(arguments)
            inner = _block(arguments, part, deeper) if arguments and deeper else None
        if inner is None:
            return text, depth
        text = inner
    return text, len(parts)


def _indent_below(block: str) -> int | None:
    """How far the keys of a mapping are indented whose own key is the first line; None where it stands in that line."""
    found = re.match(r" *[^:\n]+:\n( *)[^\s-]", block)
    return len(found[1]) if found else None


def _block(text: str, key: str, indent: int) -> str | None:
    """A key that is indented so far, with all that is below it; the dashes of a list stand right under their key."""
    start = re.search(rf"^ {{{indent}}}{re.escape(key)}:[ \n]", text, re.M)
    if start is None:
        return None
    end = re.compile(rf"^ {{0,{indent}}}(?!- )[^ \n]", re.M).search(text, start.end())
    return text[start.start() : end.start() if end else len(text)]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        if name := _class_of(value):
            yield key, name
            value = value.get("init_args") or {}
        elif not value and key:
            yield key, value
        for part, one in value.items():
            yield from _flat(one, f"{key}.{part}".strip("."))
    elif isinstance(value, list) and value and all(_class_of(one) for one in value):
        for one in value:
            for part, inner in _flat(one, f"{key}.{_class_of(one)}"):
                yield part, True if part == f"{key}.{_class_of(one)}" else inner
    else:
        yield key, value


def _class_of(value: Any) -> str | None:
    path = value.get("class_path") if isinstance(value, dict) else None
    return str(path).rpartition(".")[2] if path else None
