"""A decoder that is given the true words before each, and one that is given its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from looking import translator
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Spread, Verdict, variants

from tfzoo.layout import Layout
from tfzoo.tasks import Translation

PLACES = range(12)


@torch.inference_mode()
def forced(task: Translation, rows: list[dict[str, str]]) -> list[list[bool]]:
    """Of each target whether each of its words is the likeliest, the true ones before it given."""
    reading, writing = task.facts.source, task.facts.target
    found = []
    for row in rows:
        source = torch.tensor([[*reading.encode(row["source"]), reading.eos]])
        target = torch.tensor([[writing.bos, *writing.encode(row["reference"])]])
        said = task.network(
            source, Layout.full(*source.shape), target, Layout.full(*target.shape)
        ).argmax(-1)
        found.append((said[0, :-1] == target[0, 1:]).tolist())
    return found


def free(rows: list[dict[str, str]]) -> list[list[bool]]:
    """The same of what was generated, each word given those that were generated before it."""
    found = []
    for row in rows:
        said, true = row["translation"].split(), row["reference"].split()
        found.append([place < len(said) and said[place] == one for place, one in enumerate(true)])
    return found


def by_place(marks: list[list[bool]]) -> list[float]:
    """The share that is right at each place of long targets."""
    long = [one for one in marks if len(one) > PLACES[-1] - 2]
    return [
        sum(one[p] for one in long if p < len(one)) / max(1, sum(p < len(one) for one in long))
        for p in PLACES
    ]


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(6.5, 3.6))
    axes = figure.subplots()
    rows, gaps = [], {}
    for place, (name, one) in enumerate(runs.items()):
        given, own = [], []
        for file, predictions in zip(one.checkpoints(), one.predictions(), strict=True):
            given.append(forced(translator(file), predictions))
            own.append(free(predictions))
        for marks, style, label in (
            (given, "--", "true words before"),
            (own, "-", "its own words before"),
        ):
            curves = [by_place(one) for one in marks]
            axes.plot(
                [p + 1 for p in PLACES],
                [sum(c) / len(c) for c in zip(*curves, strict=True)],
                style,
                color=f"C{place}",
                label=f"{name}, {label}",
            )
        shares = [
            Spread(tuple(sum(map(sum, m)) / sum(map(len, m)) for m in marks))
            for marks in (given, own)
        ]
        gaps[name] = shares
        rows.append(
            [name, shares[0].told(3), shares[1].told(3), f"{shares[0].mean - shares[1].mean:+.3f}"]
        )
    axes.set(xlabel="digit of a number of 10 to 12", ylabel="right", ylim=(0, 1.03))
    axes.set_title("Teacher forcing against free running")
    axes.legend(fontsize=8, loc="lower left")
    holds = [
        name
        for name, (given, own) in gaps.items()
        if all(a > b for a, b in zip(given.values, own.values, strict=True))
    ]
    reasons = [
        f"{name}: {given.mean:.1%} of the digits are right with the true ones before them, {own.mean:.1%} with its own."
        for name, (given, own) in gaps.items()
    ]
    word = "holds" if len(holds) == len(gaps) else "holds when" if holds else "does not hold"
    when = f"the decoder is that of the {' and '.join(holds)}" if word == "holds when" else ""
    columns = ["network", "right, true words before", "right, its own before", "gap"]
    return Page(figure, columns, rows, Verdict(word, reasons, when))


CLAIM = Claim(
    "The decoder encodes anew what it has generated: taught with true words before each, it does worse on its own.",
    variants(
        "translation.yaml",
        {
            "LSTM with attention": [
                "--model.backbone.network=lstm-attention",
                "--model.backbone.dim=64",
            ],
            "Transformer": [],
        },
        predicted=True,
    ),
    found,
)
