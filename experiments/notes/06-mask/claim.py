"""A decoder that sees the future, and one that does not."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, variants, worse

NOTHING = 0.05
"""Nats a token, below which a loss counts as nothing: a word that is known for 95 in 100."""
FAILED = 0.5
"""Of the BLEU with the mask, below which generation counts as failed."""
CHANGES = {"with the mask": [], "without": ["--model.backbone.causal=false"]}


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(8, 3.4))
    left, right = figure.subplots(1, 2)
    for place, (name, one) in enumerate(runs.items()):
        for seed, curve in enumerate(one.curve("train/loss")):
            label = name if seed == 0 else None
            left.plot(*zip(*curve, strict=True), color=f"C{place}", alpha=0.7, label=label)
        for curve in one.curve("val/bleu"):
            right.plot(*zip(*curve, strict=True), "o-", color=f"C{place}", alpha=0.7, markersize=3)
    left.set(
        yscale="log",
        xlabel="step",
        ylabel="nats a token",
        title="training loss, true words before it given",
    )
    right.set(xlabel="step", ylabel="BLEU", title="generation")
    left.legend(fontsize=8)
    figure.tight_layout()
    train = {name: one.last("train/loss") for name, one in runs.items()}
    bleu = {name: one.test("test/bleu") for name, one in runs.items()}
    with_mask, without = runs
    falls = worse(train[with_mask], train[without]) and train[without].mean < NOTHING
    fails = worse(bleu[without], bleu[with_mask], lower=False)
    fails = fails and bleu[without].mean < FAILED * bleu[with_mask].mean
    reasons = [
        f"Without the mask the training loss falls to {train['without'].told(4)} nats a token, with it to "
        f"{train['with the mask'].told(3)};",
        f"generating, it reaches {bleu['without'].told(1)} BLEU, with the mask {bleu['with the mask'].told(1)}.",
    ]
    rows = [
        [name, train[name].told(4), one.test("test/loss").told(3), bleu[name].told(1)]
        for name, one in runs.items()
    ]
    columns = ["decoder", "training loss, last", "test loss, true words given", "BLEU, generated"]
    return Page(
        figure, columns, rows, Verdict("holds" if falls and fails else "does not hold", reasons)
    )


CLAIM = Claim(
    "Without a mask the decoder sees the future: training loss falls to nothing, and generation fails.",
    variants("translation.yaml", CHANGES),
    found,
)
