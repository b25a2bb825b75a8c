"""In what runs differ beside their figures: the settings of their configs, and the circumstances they ran under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfzoo.tracking.settings import ABSENT

PLACES = {
    "cache_dir",
    "checkpoint_dir",
    "ckpt_path",
    "config",
    "default_root_dir",
    "dirpath",
    "experiment",
    "run_id",
    "runs",
    "save_dir",
}
"""Last words of keys that say where something lies or what it is called: no difference between two trainings."""


@dataclass(frozen=True)
class Difference:
    """A key, and what each of the runs has under it; ABSENT where one has nothing."""

    key: str
    values: tuple[Any, ...]


def differences(
    configs: Sequence[Mapping[str, Any] | None], shared: bool = False
) -> list[Difference]:
    """The keys whose values are not the same in all configs, in the order of the first; None is one that nobody knows.

    shared: only keys that all of them have, as between different tasks. Where something lies is told only if nothing
    else differs.
    """
    known = [config for config in configs if config is not None]
    if len(known) < 2:
        return []
    found = []
    for key in dict.fromkeys(key for config in known for key in config):
        values = [config.get(key, ABSENT) for config in known]
        # What one leaves at nothing, another need not even have: arguments of a class that only one of them names.
        given = [None if value is ABSENT else value for value in values]
        same = all(type(value) is type(given[0]) and value == given[0] for value in given)
        if not same and not (shared and ABSENT in values):
            told = tuple(ABSENT if one is None else one.get(key, ABSENT) for one in configs)
            found.append(Difference(key, told))
    telling = [one for one in found if one.key.rpartition(".")[2] not in PLACES]
    return telling or found


def circumstances(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry of provenance.json says that may decide a result beside the config, as far as it says so."""
    git, versions = _mapping(entry, "git"), _mapping(entry, "versions")
    devices, data = _mapping(entry, "devices"), _mapping(entry, "data")
    told = {
        "commit": git and str(git.get("commit"))[:8] + ("+" if git.get("changed") else ""),
        "tfzoo": versions.get("tfzoo"),
        "torch": versions.get("torch"),
        "device": devices.get("kind"),
        "devices": devices.get("world_size"),
        "precision": entry.get("precision"),
        **{
            f"{split} data": f"{one.get('rows')} rows, {str(one.get('hash'))[:8]}"
            for split, one in data.items()
            if isinstance(one, dict)
        },
    }
    return {key: value for key, value in told.items() if value not in (None, {}, "")}


def _mapping(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = entry.get(key)
    return found if isinstance(found, dict) else {}
