"""A source through one vector, and one that is looked at: LSTMs without and with attention, and the Transformer."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, listed, ranges, variants, worse

LONGER = "LSTM, three times as long"
# Widths give each about as many parameters.
CHANGES = {
    "RNN": ["--model.backbone.network=rnn", "--model.backbone.dim=128"],
    "LSTM": ["--model.backbone.network=lstm", "--model.backbone.dim=72"],
    LONGER: [
        "--model.backbone.network=lstm",
        "--model.backbone.dim=72",
        "--trainer.max_steps=900",
    ],
    "LSTM with attention": [
        "--model.backbone.network=lstm-attention",
        "--model.backbone.dim=64",
    ],
    "Transformer": [],
}
LENGTHS = {"4-6": range(4, 7), "7-9": range(7, 10), "10-12": range(10, 13)}
"""Digits of a number, by which its words grow from 2 to 30."""


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(6.5, 3.6))
    axes = figure.subplots()
    by_length = {
        name: {
            digits: one.right(lambda row, n=lengths: len(row["reference"].split()) in n)
            for digits, lengths in LENGTHS.items()
        }
        for name, one in runs.items()
    }
    for name, spreads in by_length.items():
        ranges(axes, name, spreads)
    axes.set(xlabel="digits of the number", ylabel="numbers without a mistake", ylim=(-0.03, 1.03))
    axes.set_title("Numbers in words, written in digits: by length")
    axes.legend(fontsize=8)
    long = {name: spreads["10-12"] for name, spreads in by_length.items()}
    keeps = worse(long[LONGER], long["LSTM with attention"], lower=False)
    gap = {
        digits: by_length["LSTM with attention"][digits].mean - by_length[LONGER][digits].mean
        for digits in LENGTHS
    }
    reasons = [
        f"Of numbers of 10 to 12 digits an LSTM through one vector writes {long['LSTM'].mean:.0%} without a mistake, "
        f"{long[LONGER].mean:.0%} after three times as many steps, with "
        f"attention {long['LSTM with attention'].mean:.0%}, an RNN {long['RNN'].mean:.0%}, the Transformer "
        f"{long['Transformer'].mean:.0%}.",
        "What attention adds to the LSTM that was trained longer is "
        f"{listed([f'{g:+.0%} at {d} digits' for d, g in gap.items()])}.",
    ]
    rows = [
        [
            name,
            f"{one.parameters:,}",
            one.test("test/loss").told(3),
            *(spread.told() for spread in by_length[name].values()),
        ]
        for name, one in runs.items()
    ]
    columns = ["network", "parameters", "test loss, nats", *(f"right, {d} digits" for d in LENGTHS)]
    return Page(figure, columns, rows, Verdict("holds" if keeps else "does not hold", reasons))


CLAIM = Claim(
    "Sequence to sequence through one vector loses information that encoder-decoder attention keeps.",
    variants("translation.yaml", CHANGES, predicted=True),
    found,
)
