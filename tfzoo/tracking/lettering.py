"""Words in pictures: every character, Chinese included, is readable or replaced by one that is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

FONTS = (
    "Noto Sans SC",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
)
"""Fonts with Chinese characters, the best first, which `pip install "tfzoo[demo]"` brings."""


@lru_cache(maxsize=1)
def fonts() -> tuple[list[str], frozenset[int]]:
    """The fonts to write with, in this order, and the characters that they have between them."""
    from matplotlib import font_manager, ft2font

    known = font_manager.fontManager
    # The package's font is found without importing it, which would restyle every picture drawn.
    package = find_spec("zhplot")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for file in Path(folder, "fonts").glob("*.ttf"):
            known.addfont(file)
    installed = {font.name: font.fname for font in known.ttflist}
    names = ["DejaVu Sans", *[name for name in FONTS if name in installed][:1]]
    faces = [ft2font.FT2Font(installed[name]) for name in names]
    return names, frozenset(character for face in faces for character in face.get_charmap())


@contextmanager
def lettered() -> Iterator[None]:
    """Text made in here uses these fonts, and a dollar sign is a dollar sign."""
    import matplotlib

    with matplotlib.rc_context({"font.family": fonts()[0], "text.parse_math": False}):
        yield


def columns(text: str) -> int:
    """How wide text is, in letters; a Chinese character counts as two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shown(text: str, width: int | None = None) -> str:
    """Text that can be seen: control characters and lone blanks get a sign; ends at `width`."""
    signs = {"\n": "⏎", "\r": "⏎", "\t": "⇥"} | ({} if text.strip() else {" ": "␣"})
    seen = "".join(signs.get(c, "�" if unicodedata.category(c)[0] == "C" else c) for c in text)
    if width is None or columns(seen) <= width:
        return seen
    while columns(seen) > width - 1:
        seen = seen[:-1]
    return seen + "…"


def caption(text: str, width: int | None = None) -> str:
    """A line of text; a question mark where no font has the character."""
    return "".join(c if readable(c) else "?" for c in shown(text, width))


def labels(words: Sequence[str], width: int = 14) -> list[str]:
    """A label for each word; its number with a # sign, from 1, where no font has its characters."""
    seen = [shown(word, width) for word in words]
    return [word if readable(word) else f"#{i}" for i, word in enumerate(seen, start=1)]


def explanation(words: Sequence[str]) -> str:
    """What the # signs of `labels` mean; nothing where there are none."""
    if all(readable(shown(word)) for word in words):
        return ""
    brings = '; pip install "tfzoo[demo]" brings Chinese' if len(fonts()[0]) == 1 else ""
    return "#: a word that no font here can write" + brings


def readable(text: str) -> bool:
    return all(ord(character) in fonts()[1] for character in text)
