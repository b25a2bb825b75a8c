"""Products of queries and keys, divided by the root of their width and not, and what softmax makes of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, dots, variants, worse

WIDTHS = (4, 16, 64, 256, 1024, 4096)
CHANGES = {
    "divided, 4 heads of 16": [],
    "not divided, 4 heads of 16": ["--model.backbone.attention_scale=1"],
    "divided, 1 head of 64": ["--model.backbone.heads=1"],
    "not divided, 1 head of 64": ["--model.backbone.heads=1", "--model.backbone.attention_scale=1"],
}


def saturation(width: int, divided: bool) -> tuple[float, float]:
    """Of queries and keys of unit variance and that width: the largest of 32 weights, and the gradient's norm.

    The gradient is what softmax lets through of a random one, to what it is given; means over 1,000 queries.
    """
    chance = torch.Generator().manual_seed(1)
    query, keys = (
        torch.randn(*shape, width, generator=chance) for shape in ((1000, 1), (1000, 32))
    )
    scores = (query @ keys.transpose(1, 2)).squeeze(1)
    factor = width**-0.5 if divided else 1.0
    scores = (scores * factor).requires_grad_()
    weights = scores.softmax(-1)
    (weights * torch.randn(1000, 32, generator=chance)).sum().backward()
    assert scores.grad is not None
    return weights.max(-1).values.mean().item(), scores.grad.norm(dim=-1).mean().item()


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(11, 3.4))
    first, second, third = figure.subplots(1, 3, width_ratios=(2, 2, 3))
    seen = {divided: [saturation(width, divided) for width in WIDTHS] for divided in (True, False)}
    for divided, values in seen.items():
        label = "divided by √width" if divided else "as they are"
        first.plot(WIDTHS, [largest for largest, _ in values], "o-", label=label)
        second.plot(WIDTHS, [gradient for _, gradient in values], "o-", label=label)
    first.set(xscale="log", xlabel="width", ylabel="the largest of 32 weights", ylim=(0, 1.02))
    second.set(xscale="log", yscale="log", xlabel="width", ylabel="gradient through the softmax")
    first.legend(fontsize=8)
    losses = {name: one.test("test/loss") for name, one in runs.items()}
    dots(third, losses, "test loss, nats a token")
    third.set_xticks(range(len(losses)), [name.replace(", ", ",\n") for name in losses], fontsize=7)
    figure.tight_layout()
    example = torch.tensor([80.0, 20.0]).softmax(0)
    slope = (example[0] * (1 - example[0])).item()
    vanish = seen[False][-1][1] < 0.15 * seen[True][-1][1]
    harmed = [
        worse(losses[f"not divided, {heads}"], losses[f"divided, {heads}"])
        for heads in ("4 heads of 16", "1 head of 64")
    ]
    reasons = [
        f"Of the notes' scores 80 and 20 softmax makes {example[0]:.6f} and {example[1]:.1e}, with a slope of "
        f"{slope:.1e}.",
        f"At width {WIDTHS[-1]} the largest of 32 weights is {seen[False][-1][0]:.2f} without the division and "
        f"{seen[True][-1][0]:.2f} with it, the gradient {seen[False][-1][1] / seen[True][-1][1]:.2f} times as large; "
        f"at width "
        f"{WIDTHS[0]} {seen[False][0][1] / seen[True][0][1]:.2f} times.",
        f"Trained, without the division heads of 16 reach {losses['not divided, 4 heads of 16'].told(3)} nats a "
        f"token for "
        f"{losses['divided, 4 heads of 16'].told(3)} with it, one head of 64 "
        f"{losses['not divided, 1 head of 64'].told(3)} for "
        f"{losses['divided, 1 head of 64'].told(3)}.",
    ]
    if vanish and all(harmed):
        verdict = Verdict("holds", reasons)
    elif vanish:
        verdict = Verdict(
            "holds when",
            reasons,
            "it is said of how training begins: here the weights learn their scale",
        )
    else:
        verdict = Verdict("does not hold", reasons)
    rows = [
        [name, losses[name].told(3), one.test("test/bleu").told(1)] for name, one in runs.items()
    ]
    return Page(figure, ["products", "test loss, nats", "BLEU"], rows, verdict)


CLAIM = Claim(
    "Dividing by the square root of the key width keeps the softmax out of saturation: without it gradients vanish "
    "as the "
    "width grows.",
    variants("translation.yaml", CHANGES),
    found,
)
