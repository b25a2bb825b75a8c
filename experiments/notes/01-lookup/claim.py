"""That what attention gives is a sum of values, weighted by a softmax over what query and keys have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from looking import Looked, tokens, translator
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Spread, Verdict, variants

from tfzoo.backbone import Attention, fused
from tfzoo.layout import Layout, Mask

NUMBER = ("nine hundred five thousand four hundred sixty seven", "9 0 5 4 6 7")
SHARPNESS = (1, 4, 16, 64)


@torch.inference_mode()
def apart(checkpoint: Path) -> tuple[float, float]:
    """Of all attentions of a translator reading a number, at most: how far its output is from the look-up written out.

    Returns that in shares of the largest output, and how far a row of weights is from summing to 1. The output is the
    fused kernel's, of the network as it is used.
    """
    task = translator(checkpoint)
    seen: dict[Attention, tuple[Any, torch.Tensor]] = {}
    for module in task.network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(
                lambda module, given, out: seen.__setitem__(module, (given, out))
            )
    source, target = tokens(task, *NUMBER)
    task.network(source, Layout.full(*source.shape), target, Layout.full(*target.shape))
    errors, sums = [], []
    for attention, ((x, mask, _, memory, *_), out) in seen.items():
        asked = x if memory is None else memory
        query, _, _ = attention.project(x).split(attention.widths, dim=-1)
        _, key, value = attention.project(asked).split(attention.widths, dim=-1)
        query, key, value = (
            part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for part in (query, key, value)
        )
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if mask.is_causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        written = attention.output((weights @ value).transpose(1, 2).flatten(2))
        errors.append(((written - out).abs().max() / out.abs().max()).item())
        sums.append((weights.sum(-1) - 1).abs().max().item())
    return max(errors), max(sums)


def between() -> dict[int, list[float]]:
    """A query on its way from one key to another, whose values are 0 and 1: what is looked up, by the keys' length."""
    keys, values = torch.eye(2)[None, None], torch.tensor([0.0, 1.0])[None, None, :, None]
    found = {}
    for sharpness in SHARPNESS:
        share = torch.linspace(0, 1, 51)[:, None]
        query = (1 - share) * keys[0, 0, 0] + share * keys[0, 0, 1]
        found[sharpness] = (
            fused(query[None, None], sharpness * keys, values, Mask(), 0.0).flatten().tolist()
        )
    return found


def found(runs: Mapping[str, Runs]) -> Page:
    (one,) = runs.values()
    measured = [apart(file) for file in one.checkpoints()]
    errors, sums = (Spread(values) for values in zip(*measured, strict=True))
    figure = Figure(figsize=(10, 3.6))
    left, right = figure.subplots(1, 2)
    for sharpness, values in between().items():
        left.plot(torch.linspace(0, 1, 51), values, label=f"keys of length {sharpness}")
    left.set(xlabel="query, from the key of value 0 to that of value 1", ylabel="what is looked up")
    left.legend(fontsize=8)
    looked = Looked(translator(one.checkpoints()[0]), *NUMBER)
    right.imshow(
        looked.of("cross_attention")[-1].mean(0), cmap="Blues", vmin=0, vmax=1, aspect="auto"
    )
    right.set_xticks(range(len(looked.source)), looked.source, rotation=90, fontsize=7)
    right.set_yticks(range(len(looked.target)), looked.target, fontsize=7)
    right.set_title("weights of a digit (row) over the words, mean of heads", fontsize=9)
    figure.tight_layout()
    holds = max(errors.values) < 1e-4 and max(sums.values) < 1e-5
    reasons = [
        f"In trained translators the output of every attention is its values' sum, weighted by softmax(QK/√width), to "
        f"{max(errors.values):.0e} of it at most; the weights of a query sum to 1 within {max(sums.values):.0e}.",
        "The output has the values' width. The more alike query and key are, and the longer the keys, the harder the "
        "look-up (left).",
    ]
    rows = [
        [f"seed {seed}", f"{error:.1e}", f"{total:.1e}"]
        for seed, (error, total) in zip(one.variant.seeds, measured, strict=True)
    ]
    columns = ["translator", "output, from the weighted sum of values", "weights, from a sum of 1"]
    return Page(figure, columns, rows, Verdict("holds" if holds else "does not hold", reasons))


CLAIM = Claim(
    "Attention is a soft look-up: a sum of values, of their width, weighted by a softmax over similarities of query "
    "and keys.",
    variants("translation.yaml", {"translator": []}),
    found,
)
