"""1, 2, 4 and 8 heads at one width: how well they do, and whether they look at different things."""

from __future__ import annotations

from collections.abc import Mapping

from looking import Looked, overlap, translator
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Spread, Verdict, above, dots, variants

HEADS = (1, 2, 4, 8)
USUAL = 4
CHANGES = {
    f"{heads}": [f"--model.backbone.heads={heads}"] if heads != USUAL else [] for heads in HEADS
}
NUMBER = ("nine hundred five thousand four hundred sixty seven", "9 0 5 4 6 7")


def found(runs: Mapping[str, Runs]) -> Page:
    losses = {name: one.test("test/loss") for name, one in runs.items()}
    shared = {"1": Spread((1.0,))}
    for heads in HEADS[1:]:
        looked = (Looked(translator(file), *NUMBER) for file in runs[f"{heads}"].checkpoints())
        shared[f"{heads}"] = Spread(tuple(overlap(one.of("cross_attention")[-1]) for one in looked))
    four = Looked(translator(runs["4"].checkpoints()[0]), *NUMBER)
    figure = Figure(figsize=(11, 5.6))
    grid = figure.add_gridspec(2, 4, height_ratios=(3, 2.6))
    axes = figure.add_subplot(grid[0, :2])
    dots(axes, losses, "test loss, nats a token")
    axes.set(xlabel="heads, width 64 in all", title="how well they do")
    axes = figure.add_subplot(grid[0, 2:])
    dots(axes, shared, "what two heads share, of 1")
    axes.set(
        xlabel="heads, width 64 in all",
        title="how alike they look (last cross-attention)",
        ylim=(0, 1.05),
    )
    for head, weights in enumerate(four.of("cross_attention")[-1]):
        axes = figure.add_subplot(grid[1, head])
        axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(four.source)), four.source, rotation=90, fontsize=6)
        axes.set_yticks(range(len(four.target)), four.target, fontsize=6)
        axes.set_title(f"head {head + 1} of 4", fontsize=9)
    figure.tight_layout()
    several = min(losses, key=lambda name: losses[name].mean)
    helps = several != "1" and above(losses["1"], losses[several])
    differ = all(max(shared[f"{heads}"].values) < 0.9 for heads in HEADS[1:])
    reasons = [
        f"Two heads of a layer share {', '.join(f'{shared[str(h)].told()} (of {h})' for h in HEADS[1:])} of "
        "their weights: 1 would be the same look.",
        f"One head reaches {losses['1'].told(3)} nats a token, {several} reach {losses[several].told(3)}.",
    ]
    verdict = Verdict("holds" if differ else "does not hold", reasons)
    if differ and not helps:
        verdict = Verdict(
            "holds when", reasons, "it is said of what they look at: they do no better for it here"
        )
    rows = [
        [name, losses[name].told(3), one.test("test/bleu").told(1), shared[name].told()]
        for name, one in runs.items()
    ]
    return Page(figure, ["heads", "test loss, nats", "BLEU", "shared by two heads"], rows, verdict)


CLAIM = Claim(
    "Several heads look at different things.", variants("translation.yaml", CHANGES), found
)
