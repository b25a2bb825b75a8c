"""A stack without residuals, without norms, without the activation; and how alike it makes tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, dots, listed, variants, worse
from torch import Tensor

from tfzoo.backbone import Transformer, TransformerConfig
from tfzoo.layout import Layout

DEEP = ["--model.backbone.depth=4"]
CHANGES = {
    "pre-norm": DEEP,
    "post-norm": [*DEEP, "--model.backbone.norm_placement=post"],
    "no norm": [*DEEP, "--model.backbone.norm=none"],
    "no residuals": [*DEEP, "--model.backbone.residual=false"],
    "linear feed-forward": [*DEEP, "--model.backbone.activation=none"],
    # Wider, for as many parameters.
    "no feed-forward": [*DEEP, "--model.backbone.hidden=0", "--model.backbone.dim=80"],
}
STACKS = {
    "whole": {},
    "no residuals": {"residual": False},
    "no feed-forward": {"hidden": 0},
    "neither": {"residual": False, "hidden": 0},
}
DEPTH = 12


@torch.no_grad()
def alike(**changes) -> list[float]:
    """How alike an untrained stack makes different tokens: at its input and after each layer the mean cosine of two.

    1: all are the same vector but for its length, which is what attention alone comes to (Dong et al. 2021).
    """
    torch.manual_seed(1)
    config = TransformerConfig(dim=64, depth=DEPTH, heads=4, dropout=0.0, max_length=64, **changes)
    stack, cosines = Transformer(config).eval(), []
    x = torch.randn(4, 64, 64)
    layout = Layout.full(4, 64)

    def note(*said: Tensor) -> None:
        unit = torch.nn.functional.normalize(said[-1], dim=-1)
        cosine = unit @ unit.transpose(1, 2)
        cosines.append(((cosine.sum((1, 2)) - 64) / (64 * 63)).mean().item())

    note(x)
    for block in stack.blocks:
        block.register_forward_hook(lambda module, given, out: note(out))
    stack(x, layout)
    return cosines


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(10.5, 3.6))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    losses = {name: one.test("test/loss") for name, one in runs.items()}
    dots(left, losses, "test loss, nats a token")
    left.set_xticks(range(len(losses)), [name.replace(" ", "\n", 1) for name in losses], fontsize=8)
    left.set_title("four layers, trained")
    collapse = {name: alike(**changes) for name, changes in STACKS.items()}
    for name, values in collapse.items():
        right.plot(range(DEPTH + 1), values, label=name)
    right.set(xlabel="layer", ylabel="mean cosine between tokens", title="twelve layers, untrained")
    right.legend(fontsize=8)
    figure.tight_layout()
    usual = losses["pre-norm"]
    needs = {
        "residuals": worse(losses["no residuals"], usual),
        "normalisation": worse(losses["no norm"], usual),
        "the feed-forward layer": worse(losses["no feed-forward"], usual),
        "its nonlinearity": worse(losses["linear feed-forward"], usual),
        "feed-forward layers against collapse": collapse["no residuals"][-1]
        < 0.9
        < collapse["neither"][-1],
    }
    reasons = [
        f"With all of it {usual.told(3)} nats a token; without residuals {losses['no residuals'].told(3)}, without "
        f"norms "
        f"{losses['no norm'].told(3)}, with a linear feed-forward layer {losses['linear feed-forward'].told(3)}, "
        f"without one "
        f"{losses['no feed-forward'].told(3)}; post-norm {losses['post-norm'].told(3)}.",
        f"Untrained, twelve layers of attention alone make tokens alike to a cosine of "
        f"{collapse['neither'][-1]:.2f}; with "
        f"residuals alone it is {collapse['no feed-forward'][-1]:.2f}, with feed-forward layers alone "
        f"{collapse['no residuals'][-1]:.2f}, with both {collapse['whole'][-1]:.2f}.",
    ]
    missing = [name for name, needed in needs.items() if not needed]
    if not missing:
        verdict = Verdict("holds", reasons)
    else:
        held = [name for name, needed in needs.items() if needed]
        words = f"it is said of {listed(held)}, not of {listed(missing)}"
        verdict = Verdict("holds when" if held else "does not hold", reasons, words if held else "")
    rows = [
        [name, f"{one.parameters:,}", losses[name].told(3), one.test("test/bleu").told(1)]
        for name, one in runs.items()
    ]
    return Page(figure, ["four layers", "parameters", "test loss, nats", "BLEU"], rows, verdict)


CLAIM = Claim(
    "Residuals let depth train, normalisation keeps the scale, and without the feed-forward layer's nonlinearity a "
    "stack collapses.",
    variants("translation.yaml", CHANGES),
    found,
)
