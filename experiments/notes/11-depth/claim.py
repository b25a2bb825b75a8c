"""Depth against width, at as many parameters."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, listed, losing, variants

# Layers: width. The encoder and the decoder have about as many parameters in each.
SHAPES = {1: 84, 2: 64, 4: 48, 6: 40, 8: 32}
USUAL = 2
CHANGES = {
    f"{depth} x {dim}": [
        f"--model.backbone.depth={depth}",
        f"--model.backbone.dim={dim}",
        f"--model.backbone.hidden={2 * dim}",
    ]
    if depth != USUAL
    else []
    for depth, dim in SHAPES.items()
}


def found(runs: Mapping[str, Runs]) -> Page:
    losses = {name: one.test("test/loss") for name, one in runs.items()}
    figure = Figure(figsize=(6.5, 3.5))
    axes = figure.subplots()
    for depth, loss in zip(SHAPES, losses.values(), strict=True):
        axes.plot([depth] * len(loss.values), loss.values, "o", color="tab:blue", alpha=0.6)
        top = (depth, max(loss.values))
        axes.annotate(f"width {SHAPES[depth]}", top, (4, 6), textcoords="offset points", fontsize=8)
    axes.plot(list(SHAPES), [loss.mean for loss in losses.values()], color="tab:blue")
    axes.set_xlabel("layers of encoder and of decoder, as many parameters in all")
    axes.set_ylabel("test loss, nats a token")
    axes.set_title("Depth against width: numbers in words, written in digits")
    best, worse = losing(losses)
    reasons = [
        f"Best is {best} with {losses[best].told(3)} nats a token; six layers reach {losses['6 x 40'].told(3)}.",
        f"Worse than the best in every seed: {listed(worse)}.",
    ]
    magic = best.startswith("6 ") and len(worse) == len(runs) - 1
    rows = [
        [name, f"{one.parameters:,}", losses[name].told(3), one.test("test/bleu").told(1)]
        for name, one in runs.items()
    ]
    columns = ["layers x width", "parameters", "test loss, nats", "BLEU"]
    return Page(figure, columns, rows, Verdict("does not hold" if magic else "holds", reasons))


CLAIM = Claim(
    "Six layers are not magic: depth and width at equal parameters.",
    variants("translation.yaml", CHANGES),
    found,
)
