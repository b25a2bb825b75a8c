"""Depth against width, at as many parameters."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, above, variants

# (depth, width): the encoder and the decoder have about as many parameters in each.
SHAPES = {1: 92, 2: 64, 4: 44, 6: 36, 12: 24}
CHANGES = {
    f"{depth} x {dim}": [
        f"--model.backbone.depth={depth}",
        f"--model.backbone.dim={dim}",
        f"--model.backbone.hidden={2 * dim}",
    ]
    for depth, dim in SHAPES.items()
}


def found(runs: Mapping[str, Runs]) -> Page:
    losses = {name: one.test("test/loss") for name, one in runs.items()}
    figure = Figure(figsize=(6.5, 3.5))
    axes = figure.subplots()
    for depth, (name, loss) in zip(SHAPES, losses.items(), strict=True):
        axes.plot([depth] * len(loss.values), loss.values, "o", color="tab:blue", alpha=0.6)
        axes.annotate(f"width {SHAPES[depth]}", (depth, max(loss.values)), (4, 6), textcoords="offset points", fontsize=8)  # fmt: skip
    axes.plot(list(SHAPES), [loss.mean for loss in losses.values()], color="tab:blue")
    axes.set_xlabel("layers of encoder and decoder, as many parameters in all")
    axes.set_ylabel("test loss, nats a token")
    axes.set_title("Depth against width: numbers in words, written in digits")
    best = min(losses, key=lambda name: losses[name].mean)
    six = losses["6 x 36"]
    others = [name for name in losses if name != best]
    clear = [name for name in others if above(losses[name], losses[best])]
    reasons = [
        f"Best is {best} with {losses[best].told(3)} nats; six layers reach {six.told(3)}.",
        f"Of the others, {', '.join(clear) or 'none'} are worse in every seed.",
    ]
    word = "does not hold" if best.startswith("6 ") and len(clear) == len(others) else "holds"
    rows = [
        [name, f"{runs[name].parameters:,}", losses[name].told(3), runs[name].test("test/bleu").told(1)]
        for name in runs
    ]  # fmt: skip
    columns = ["layers x width", "parameters", "test loss, nats", "BLEU"]
    return Page(figure, columns, rows, Verdict(word, reasons))


CLAIM = Claim(
    "Six layers are not magic: depth and width at equal parameters",
    variants("translation.yaml", CHANGES),
    found,
)
