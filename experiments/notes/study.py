"""What a claim's page is made of: the trainings it needs, what they came to, and what follows from that."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

HERE = Path(__file__).parent
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Training:
    """One run: of an experiment file here, with some settings changed, from a seed.

    predicted: whether what it says of the test split is needed too, and not only how well.
    """

    file: str
    flags: tuple[str, ...] = ()
    seed: int = 1
    predicted: bool = False

    @property
    def id(self) -> str:
        """The same for the same training, whichever claim asks: a setting that changes gives another run."""
        parts = [
            self.file,
            "sets.py",
            *(["exchanged.py"] if "exchanged" in str(self.flags) else []),
        ]
        content = "".join((HERE / part).read_text(encoding="utf-8") for part in parts)
        told = hashlib.sha256(f"{content}{self.flags}{self.seed}".encode()).hexdigest()
        return f"{self.changed or 'as-it-is'}-seed{self.seed}-{told[:6]}"

    @property
    def changed(self) -> str:
        """The settings that are changed, short enough for a folder's name."""
        said = (flag.lstrip("-").rpartition(".")[2].replace("=", "-") for flag in self.flags)
        return "".join(c if c.isalnum() or c in "-." else "_" for c in "-".join(said))[:60]

    def folder(self, runs: Path) -> Path:
        return runs / f"notes-{Path(self.file).stem}" / self.id

    def commands(self, runs: Path) -> list[list[str]]:
        """The ordinary commands, as anyone may type them."""
        folder = self.folder(runs)
        fit = ["fit", "-c", str(HERE / self.file), *self.flags, f"--seed_everything={self.seed}"]
        fit += [f"--runs={runs}", f"--experiment={folder.parent.name}", f"--run_id={self.id}"]
        best = str(folder / "checkpoints" / "best.ckpt")
        ways = ["test", "predict"] if self.predicted else ["test"]
        return [fit, *([way, "--ckpt_path", best] for way in ways)]

    def diverged(self, runs: Path) -> Path:
        """A file that is there where the training came to no end: what it said last."""
        return self.folder(runs) / "diverged.txt"

    def is_done(self, runs: Path) -> bool:
        if self.diverged(runs).exists():
            return True
        last = "predictions.jsonl" if self.predicted else "test.json"
        return (self.folder(runs) / last).exists()


@dataclass(frozen=True)
class Variant:
    """The same training from several seeds; name: what a reader calls it."""

    name: str
    file: str
    flags: tuple[str, ...] = ()
    seeds: Sequence[int] = SEEDS
    predicted: bool = False

    @property
    def trainings(self) -> list[Training]:
        return [Training(self.file, self.flags, seed, self.predicted) for seed in self.seeds]


def variants(file: str, changes: Mapping[str, Iterable[str]], **more: Any) -> list[Variant]:
    """changes: of each name the settings, as on the command line."""
    return [Variant(name, file, tuple(flags), **more) for name, flags in changes.items()]


@dataclass(frozen=True)
class Spread:
    """A figure of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def told(self, digits: int = 2) -> str:
        if len(self.values) == 1:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"


def worse(one: Spread, other: Spread, lower: bool = True) -> bool:
    """Whether every seed of one is worse than every seed of the other: no overlap that chance could explain.

    lower: whether less is better. A training that diverged has no value (nan), and is worse than any.
    """
    ours, theirs = _losses(one, lower), _losses(other, lower)
    return min(ours) > max(theirs)


def _losses(spread: Spread, lower: bool) -> list[float]:
    return [math.inf if math.isnan(v) else v if lower else -v for v in spread.values]


def losing(metric: Mapping[str, Spread], lower: bool = True) -> tuple[str, list[str]]:
    """The variant whose mean is best, and those that are worse than it in every seed."""
    best = min(metric, key=lambda name: statistics.fmean(_losses(metric[name], lower)))
    return best, [name for name in metric if worse(metric[name], metric[best], lower)]


def listed(names: Sequence[str]) -> str:
    """In words: a, b and c."""
    if len(names) < 2:
        return "".join(names) or "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def dots(axes: Any, spreads: Mapping[str, Spread], label: str) -> None:
    """A column of dots for each variant, one a seed, and a bar at their mean."""
    for place, (name, spread) in enumerate(spreads.items()):
        axes.plot([place] * len(spread.values), spread.values, "o", color=f"C{place}", alpha=0.7)
        axes.hlines(spread.mean, place - 0.25, place + 0.25, color=f"C{place}", label=name)
    axes.set_xticks(range(len(spreads)), spreads, fontsize=8)
    axes.set_xlim(-0.6, len(spreads) - 0.4)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)


def ranges(axes: Any, name: str, spreads: Mapping[Any, Spread]) -> None:
    """A line through the means, each with a bar from the worst seed to the best."""
    means = [spread.mean for spread in spreads.values()]
    below = [max(0.0, s.mean - min(s.values)) for s in spreads.values()]
    above = [max(0.0, max(s.values) - s.mean) for s in spreads.values()]
    axes.errorbar(list(spreads), means, (below, above), fmt="o-", capsize=3, label=name)


class Runs:
    """What the trainings of a variant left in their folders."""

    def __init__(self, variant: Variant, root: Path) -> None:
        self.variant = variant
        self.folders = [training.folder(root) for training in variant.trainings]

    def test(self, metric: str) -> Spread:
        """A metric of the test split, as `tfzoo test` measured it on the best checkpoint."""
        return Spread(tuple(self._tested[k][metric] for k in range(len(self.folders))))

    @cached_property
    def _tested(self) -> list[dict[str, float]]:
        return [
            json.loads((folder / "test.json").read_text())
            if (folder / "test.json").exists()
            else defaultdict(lambda: math.nan)  # it diverged
            for folder in self.folders
        ]

    def curve(self, metric: str) -> list[list[tuple[int, float]]]:
        """Of each seed, (step, value) wherever the metric was logged."""
        return [
            [(int(row["step"]), float(row[metric])) for row in rows if row.get(metric)]
            for rows in self._rows
        ]

    def last(self, metric: str) -> Spread:
        """The last value that training logged."""
        return Spread(tuple(curve[-1][1] if curve else math.nan for curve in self.curve(metric)))

    @cached_property
    def _rows(self) -> list[list[dict[str, str]]]:
        found = []
        for folder in self.folders:
            with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
                found.append(list(csv.DictReader(file)))
        return found

    @property
    def parameters(self) -> int:
        told = json.loads((self.folders[0] / "provenance.json").read_text(encoding="utf-8"))
        return int(told[-1]["parameters"])

    def predictions(self) -> list[list[dict[str, Any]]]:
        """Of each seed, what `tfzoo predict` said of the test split, row by row."""
        return [
            [json.loads(line) for line in (folder / "predictions.jsonl").open(encoding="utf-8")]
            for folder in self.folders
        ]

    def right(self, among: Callable[[dict[str, Any]], bool]) -> Spread:
        """Of the rows that are meant, the share translated without a mistake."""
        shares = []
        for rows in self.predictions():
            those = [row["translation"] == row["reference"] for row in rows if among(row)]
            shares.append(sum(those) / len(those))
        return Spread(tuple(shares))

    def checkpoints(self) -> list[Path]:
        return [folder / "checkpoints" / "best.ckpt" for folder in self.folders]


@dataclass(frozen=True)
class Verdict:
    """holds, holds when ..., or does not hold; reasons: sentences with the figures that it follows from."""

    word: Literal["holds", "holds when", "does not hold"]
    reasons: list[str]
    when: str = ""

    def told(self) -> str:
        return f"{self.word} {self.when}".strip()


@dataclass
class Page:
    """What was found: a figure, a table, a verdict."""

    figure: Figure
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict: Verdict


@dataclass(frozen=True)
class Claim:
    """A sentence of the notes, the trainings that try it, and what is made of them.

    found: from the runs of each variant, by its name, to the page.
    """

    sentence: str
    variants: Sequence[Variant]
    found: Callable[[Mapping[str, Runs]], Page]
