"""Small sets that isolate one claim: numbers in words to be written in digits, and letters to be recalled from afar.

    python experiments/notes/sets.py FOLDER

Written as jsonl, one folder a set with a file a split; the same for the same code, whoever writes them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = ("", "thousand", "million", "billion")
DISTANCES = (5, 10, 25, 50, 100, 200)
"""Letters between the one to be recalled and either end."""
LETTERS = "abcdefghijklmnop"


def words(number: int) -> list[str]:
    """A number below 10^12 in English words."""
    if number < 1000:
        return _hundreds(number) or [ONES[0]]
    said: list[str] = []
    for place in reversed(range(len(SCALES))):
        if group := number // 1000**place % 1000:
            said += [*_hundreds(group), SCALES[place]] if place else _hundreds(group)
    return said


def _hundreds(number: int) -> list[str]:
    said = [ONES[number // 100], "hundred"] if number >= 100 else []
    number %= 100
    if number >= 20:
        said.append(TENS[number // 10 - 2])
        number %= 10
    return said + ([ONES[number]] if number else [])


def numbers(count: int, chance: random.Random) -> Iterator[dict[str, str]]:
    """Of 4 to 12 digits, each length as often as another: source in words, target in digits, one a word."""
    for _ in range(count):
        digits = chance.randint(4, 12)
        number = chance.randrange(10 ** (digits - 1), 10**digits)
        yield {"source": " ".join(words(number)), "target": " ".join(str(number))}


def recall(count: int, chance: random.Random) -> Iterator[dict[str, str]]:
    """A row of letters, one of them a capital: which? Every distance as often as another."""
    for place in range(count):
        yield _asked(DISTANCES[place % len(DISTANCES)], chance)


def recall_evenly(count: int, chance: random.Random) -> Iterator[dict[str, str]]:
    """The same to learn from: every distance with as many letters in all, so that each fills as many batches."""
    weights = [1 / (2 * far + 1) for far in DISTANCES]
    for far in chance.choices(DISTANCES, weights, k=count):
        yield _asked(far, chance)


def _asked(far: int, chance: random.Random) -> dict[str, str]:
    """The capital stands as far from one end as from the other."""
    sought = chance.choice(LETTERS)
    before, after = ("".join(chance.choices(LETTERS, k=far)) for _ in range(2))
    return {"source": f"{before}{sought.upper()}{after}", "target": sought}


def distance(source: str) -> int:
    """How far the letter to be recalled stands from either end."""
    return len(source) // 2


Maker = Callable[[int, random.Random], Iterator[dict[str, str]]]
SETS: dict[str, dict[str, tuple[Maker, int]]] = {
    "numbers": {"train": (numbers, 6000), "validation": (numbers, 300), "test": (numbers, 600)},
    "recall": {
        "train": (recall_evenly, 20_000),
        "validation": (recall, 300),
        "test": (recall, 600),
    },
}
"""Of each split who makes its rows, and how many."""


def write(root: Path) -> None:
    """All sets, each into a folder of its name; no split has a row of another."""
    for name, splits in SETS.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        seen: set[str] = set()
        for split, (make, count) in splits.items():
            rows = make(2 * count, random.Random(f"{name} {split}"))
            lines = dict.fromkeys(json.dumps(row) + "\n" for row in rows)
            new = [line for line in lines if line not in seen][:count]
            seen |= set(new)
            file = folder / f"{split}.jsonl"
            aside = file.with_suffix(".part")
            aside.write_text("".join(new), encoding="utf-8")
            aside.replace(file)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
