"""Kinds of positions, on each task; and that sinusoidal ones are turned by a matrix that knows the distance alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Spread, Variant, Verdict, dots, listed, worse

from tfzoo.backbone import SinusoidalPositions

KINDS = ("sinusoidal", "learned", "rotary", "none")
TASKS = {
    "translation": ("translation.yaml", "sinusoidal", "test/loss", "test loss, nats a token", True),
    "text classification": ("texts.yaml", "learned", "test/accuracy", "accuracy", False),
    "image classification": ("images.yaml", "learned", "test/accuracy", "accuracy", False),
    "generation": ("language.yaml", "rotary", "test/loss", "test loss, nats a character", True),
}
"""Of each the experiment, the positions that its file says, the metric, its name, and whether less is better."""


def linear_map_error(most: int = 64, dim: int = 64) -> float:
    """How far PE(pos + k) is at most from M(k) PE(pos), over 512 positions and k up to `most`.

    M(k) turns each pair (sin, cos) by the angle of k, whose sine and cosine are PE(k) itself.
    """
    table = SinusoidalPositions(512, dim).table.double().unflatten(1, (-1, 2))  # (sin, cos) pairs
    sin, cos = table.unbind(-1)
    errors = []
    for k in range(1, most + 1):
        turned = [sin[:-k] * cos[k] + cos[:-k] * sin[k], cos[:-k] * cos[k] - sin[:-k] * sin[k]]
        errors.append((torch.stack(turned, -1) - table[k:]).abs().max().item())
    return max(errors)


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(10, 6))
    rows, better = [], []
    for axes, (task, (_, _, metric, label, lower)) in zip(
        figure.subplots(2, 2).flat, TASKS.items(), strict=True
    ):
        spreads = {kind: runs[f"{task}, {kind}"].test(metric) for kind in KINDS}
        dots(axes, spreads, label)
        axes.set_title(task, fontsize=10)
        rows.append([f"{task}, {label}", *(spreads[kind].told(3) for kind in KINDS)])
        better.append(_verdict(task, spreads, lower))
    figure.tight_layout()
    error = linear_map_error()
    wins = [task for task, which in better if which == "learned"]
    losses = [task for task, which in better if which == "sinusoidal"]
    even = [task for task, which in better if which == "even"]
    reasons = [
        f"PE(pos + k) is a linear map of PE(pos): for k up to 64 one matrix for each k serves all of 512 positions "
        f"with an error of at most {error:.0e}.",
        f"Learned positions are better than sinusoidal ones, in every seed, on {listed(wins)}; worse on "
        f"{listed(losses)}; neither on {listed(even)}.",
    ]
    linear = error < 1e-3
    if linear and len(wins) == len(TASKS):
        verdict = Verdict("holds", reasons)
    elif linear:
        when = (
            f"the task is {listed(wins)}"
            if wins
            else "it is said of the linear map: learned ones are better nowhere"
        )
        verdict = Verdict("holds when", reasons, when)
    else:
        verdict = Verdict("does not hold", reasons)
    return Page(figure, ["", *KINDS], rows, verdict)


def _verdict(task: str, spreads: Mapping[str, Spread], lower: bool) -> tuple[str, str]:
    learned, sinusoidal = spreads["learned"], spreads["sinusoidal"]
    if worse(sinusoidal, learned, lower):
        return task, "learned"
    return task, "sinusoidal" if worse(learned, sinusoidal, lower) else "even"


CLAIM = Claim(
    "Sinusoidal positions carry relative ones, PE(pos + k) is a linear map of PE(pos); and learned positions are "
    "better.",
    [
        Variant(
            f"{task}, {kind}",
            file,
            (f"--model.backbone.positions={kind}",) if kind != usual else (),
        )
        for task, (file, usual, *_) in TASKS.items()
        for kind in KINDS
    ],
    found,
)
