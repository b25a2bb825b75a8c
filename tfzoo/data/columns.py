"""Which column is meant: the one asked for, one of a usual name, or the first of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, Json, Translation

from tfzoo.data.source import Rows, Splits, is_text

TEXTS = ("text", "sentence", "sentence1", "premise", "question")
IMAGES = ("image", "img")
LABELS = ("label", "labels", "coarse_label")


def is_image(feature: Any) -> bool:
    return isinstance(feature, Image)


def is_label(feature: Any) -> bool:
    """Classes may be declared, or be text, whole numbers or truth values."""
    kind = str(getattr(feature, "dtype", ""))
    return isinstance(feature, ClassLabel) or is_text(feature) or "int" in kind or kind == "bool"


def may_be_label(feature: Any) -> bool:
    """A column of whole numbers, some of them missing, is read as floating point."""
    return is_label(feature) or str(getattr(feature, "dtype", "")).startswith("float")


def labelled(
    features: Features,
    content: str | None,
    usual: Sequence[str],
    fits: Callable[[Any], bool],
    role: str,
    label: str | None,
) -> tuple[str, str]:
    """The columns of a labelled set: the content (text or image), and the label."""
    known = label or next((name for name in LABELS if name in features), None)
    content = column(features, content, usual, fits, role, taken=(known,) if known else ())
    # By type: what is declared as classes, then text, then numbers, which may be mere row numbers.
    rest = [name for name in features if name != content]
    ranked = sorted(
        rest, key=lambda n: (not isinstance(features[n], ClassLabel), not is_text(features[n]))
    )
    fits = may_be_label if known else is_label
    return content, column(features, known, ranked, fits, "label", taken=(content,))


def column(
    features: Features,
    asked: str | None,
    usual: Sequence[str],
    fits: Callable[[Any], bool],
    role: str,
    taken: Sequence[str] = (),
) -> str:
    """The name of the column that plays a role (`text`, `label`, ...), not one of those taken.

    Raises ValueError listing the columns there are, if none fits or the one asked for does not.
    """
    there = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    if asked is not None:
        if asked not in features:
            raise ValueError(f"there is no column {asked!r} for the {role}, only {there}")
        if not fits(features[asked]):
            raise ValueError(f"column {asked!r} cannot be the {role}; the columns are {there}")
        return asked
    free = [name for name in features if name not in taken and fits(features[name])]
    for name in (*usual, *free):
        if name in free:
            return name
    raise ValueError(f"no column can be the {role}: name one with {role}; the columns are {there}")


def _kind(feature: Any) -> str:
    if isinstance(feature, Json):
        return "values of several kinds"
    return (
        "text"
        if is_text(feature)
        else str(getattr(feature, "dtype", None) or type(feature).__name__)
    )


def odd_row(splits: Splits, complaint: str) -> str:
    """Of a column that holds values of several kinds, which JSON allows: the first row of another kind than the first.

    complaint: what is said of the columns; one that names none, or another, is none of this.
    Returns the end of a sentence, empty where there is none. Streams are not looked through.
    """
    for split, rows in splits.items():
        if not isinstance(rows, Dataset):
            continue
        whole, numbers = splits.parts.get(split, (split, range(len(rows))))
        for name in (n for n, feature in rows.features.items() if isinstance(feature, Json)):
            if f"column {name!r} cannot be" not in complaint:
                continue
            values = rows.select_columns([name])[:][name]
            usual = next((value for value in values if value is not None), None)
            for number, value in zip(numbers, values, strict=True):
                if value is not None and type(value) is not type(usual):
                    return (
                        f"; in column {name!r}, row {number} (from 0) of the {whole} split holds "
                        f"{repr(value)[:60]}, and others before it {repr(usual)[:60]}"
                    )
    return ""


def unnest(rows: Rows, name: str = "translation") -> Rows:
    """WMT's form, one column of `{"de": ..., "en": ...}`, as a column for each language."""
    nested = (rows.features or {}).get(name)
    if not isinstance(nested, dict | Translation):
        return rows
    languages = nested.languages if isinstance(nested, Translation) else list(nested)
    if isinstance(rows, Dataset):
        flat = rows.flatten()
        return flat.rename_columns({f"{name}.{language}": language for language in languages})
    return rows.map(lambda row: row[name], remove_columns=[name])
