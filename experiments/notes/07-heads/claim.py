"""1, 2, 4 and 8 heads at one width: how well they do, and whether they look at different things."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from looking import Looked, overlap, translator
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Spread, Verdict, dots, listed, losing, variants, worse

from tfzoo.tasks import Translation

HEADS = (1, 2, 4, 8)
USUAL = 4
CHANGES = {
    f"{heads}": [f"--model.backbone.heads={heads}"] if heads != USUAL else [] for heads in HEADS
}
TEST = Path("runs/notes/sets/numbers/test.jsonl")
SENTENCES = 50
NUMBER = ("nine hundred five thousand four hundred sixty seven", "9 0 5 4 6 7")


def shares(task: Translation, pairs: list[dict[str, str]]) -> float:
    """What two heads of its last cross-attention share, in the mean over pairs of source and target."""
    looked = (Looked(task, pair["source"], pair["target"]) for pair in pairs)
    return fmean(overlap(one.of("cross_attention")[-1]) for one in looked)


def found(runs: Mapping[str, Runs]) -> Page:
    losses = {name: one.test("test/loss") for name, one in runs.items()}
    pairs = [json.loads(line) for line in TEST.open(encoding="utf-8")][:SENTENCES]
    shared, chance = {}, {}
    for heads in HEADS[1:]:
        tasks = [translator(file) for file in runs[f"{heads}"].checkpoints()]
        shared[f"{heads}"] = Spread(tuple(shares(task, pairs) for task in tasks))
        chance[f"{heads}"] = Spread(tuple(shares(task.anew().eval(), pairs) for task in tasks))
    four = Looked(translator(runs["4"].checkpoints()[0]), *NUMBER)
    figure = Figure(figsize=(11, 5.6))
    grid = figure.add_gridspec(2, 4, height_ratios=(3, 2.6))
    axes = figure.add_subplot(grid[0, :2])
    dots(axes, losses, "test loss, nats a token")
    axes.set(xlabel="heads, width 64 in all", title="how well they do")
    axes = figure.add_subplot(grid[0, 2:])
    dots(axes, shared, "what two heads share, of 1")
    for place, one in enumerate(chance.values()):
        label = "untrained" if place == 0 else None
        axes.hlines(one.mean, place - 0.25, place + 0.25, color="grey", linestyle=":", label=label)
    axes.legend(fontsize=8)
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
    best, others = losing(losses)
    apart = [heads for heads in shared if worse(chance[heads], shared[heads])]
    told = listed(
        [f"{shared[n].told()} of {n} heads (untrained {chance[n].told()})" for n in shared]
    )
    reasons = [
        f"What two heads of the last cross-attention share of their weights: {told}; 1 would be the same look.",
        f"Best are {best} heads with {losses[best].told(3)} nats a token; worse in every seed: {listed(others)}.",
    ]
    if len(apart) == len(shared) and "1" in others:
        verdict = Verdict("holds", reasons)
    elif len(apart) == len(shared):
        verdict = Verdict(
            "holds when", reasons, "it is said of their looks: they do no better here"
        )
    elif apart:
        verdict = Verdict("holds when", reasons, f"there are {listed(apart)} heads")
    else:
        verdict = Verdict("does not hold", reasons)
    rows = [
        [
            name,
            losses[name].told(3),
            one.test("test/bleu").told(1),
            shared[name].told() if name in shared else "-",
        ]
        for name, one in runs.items()
    ]
    return Page(figure, ["heads", "test loss, nats", "BLEU", "shared by two heads"], rows, verdict)


CLAIM = Claim(
    "Several heads look at different things.", variants("translation.yaml", CHANGES), found
)
