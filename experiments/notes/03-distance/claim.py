"""What is remembered over a distance, and what a length costs: RNN, LSTM, LSTM with attention, Transformer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from matplotlib.figure import Figure
from sets import DISTANCES, LETTERS, distance
from study import Claim, Page, Runs, Spread, Verdict, listed, ranges, variants, worse
from torch import Tensor, nn

from tfzoo.backbone import TransformerConfig, stack_for
from tfzoo.backbone.attention import Attention, explicit
from tfzoo.layout import Layout

FEW = "--trainer.max_steps=200"
"""Who looks back learns this in a seventh of the steps that the others are given."""
CHANGES = {
    "RNN": ["--model.backbone.network=rnn", "--model.backbone.dim=132"],
    "LSTM": ["--model.backbone.network=lstm", "--model.backbone.dim=72"],
    "LSTM with attention": ["--model.backbone.network=lstm-attention", FEW],
    "Transformer": [FEW],
}
LENGTHS = (64, 128, 256, 512, 1024, 2048)
FORGETS = 0.5
"""Below this share of right answers, halfway down to guessing, a distance counts as forgotten. Who does not come that
far at the shortest has not learned the task, and no part of the claim is judged by it."""


def reach(shares: Mapping[int, Spread]) -> int:
    """The largest distance up to which all are remembered, in the mean over seeds; 0: none."""
    found = 0
    for far, share in shares.items():
        if share.mean < FORGETS:
            break
        found = far
    return found


def layer(network: str, length: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """One layer of width 64, and what it makes of one text of that length."""
    config = TransformerConfig(
        dim=64, depth=1, heads=4, hidden=128, dropout=0.0, max_length=4096, network=network
    )
    stack, x, layout = stack_for(config), torch.randn(1, length, 64), Layout.full(1, length)
    return stack, lambda: stack(x, layout).sum()


def cost(network: str, length: int) -> float:
    """Seconds of a forward and backward pass, the best of nine."""
    _, run = layer(network, length)
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        run().backward()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def kept(network: str, length: int) -> int:
    """Bytes that the forward pass keeps for the backward pass, weights aside; attention is as its formula says."""
    stack, run = layer(network, length)
    for part in stack.modules():
        if isinstance(part, Attention):
            part.kernel = explicit
    sizes: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    weights = {weight.untyped_storage().data_ptr() for weight in stack.parameters()}
    return sum(size for place, (_, size) in sizes.items() if place not in weights)


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(14, 3.6))
    left, second, third = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    shares = {
        name: {d: one.right(lambda row, d=d: distance(row["source"]) == d) for d in DISTANCES}
        for name, one in runs.items()
    }
    for name, by_distance in shares.items():
        ranges(left, name, by_distance)
    left.axhline(1 / len(LETTERS), color="grey", linestyle=":", label="guessing")
    left.set(
        xscale="log", xlabel="letters to either end", ylabel="letters recalled", ylim=(-0.03, 1.4)
    )
    left.set_xticks(DISTANCES, DISTANCES)
    left.set_yticks([0, 0.5, 1])
    left.legend(fontsize=8, ncols=3, loc="upper center")
    costs = {n: [cost(n, length) for length in LENGTHS] for n in ("rnn", "lstm", "transformer")}
    for name, seconds in costs.items():
        second.plot(LENGTHS, [1000 * s for s in seconds], "o-", label=name)
    second.set(xscale="log", yscale="log", xlabel="tokens", ylabel="milliseconds, forward and back")
    second.set_title("one layer of width 64, one text", fontsize=9)
    second.legend(fontsize=8)
    memories = {n: [kept(n, length) for length in LENGTHS] for n in costs}
    for name, sizes in memories.items():
        third.plot(LENGTHS, [size / 1e6 for size in sizes], "o-", label=name)
    third.set(xscale="log", yscale="log", xlabel="tokens", ylabel="megabytes kept for the way back")
    third.set_title("the same, attention as its formula says", fontsize=9)
    third.legend(fontsize=8)
    figure.tight_layout()
    farthest = {name: by_distance[max(DISTANCES)] for name, by_distance in shares.items()}
    reached = {name: reach(by_distance) for name, by_distance in shares.items()}
    growth = {n: seconds[-1] / seconds[-2] for n, seconds in costs.items()}
    room = {n: sizes[-1] / sizes[-2] for n, sizes in memories.items()}
    learned = {name for name, far in reached.items() if far}
    reasons = [
        f"Remembered up to: {listed([f'{d} letters by the {name}' for name, d in reached.items() if d])}.",
        *(f"The {name} has not learned the task." for name in reached if name not in learned),
        f"From {LENGTHS[-2]} tokens to {LENGTHS[-1]} the time grows {growth['rnn']:.1f} times for the RNN, "
        f"{growth['lstm']:.1f} times for the LSTM, {growth['transformer']:.1f} times for attention; at {LENGTHS[-1]} "
        f"tokens attention takes {costs['transformer'][-1] / costs['lstm'][-1]:.2f} of the LSTM's time. "
        f"Its memory grows {room['transformer']:.1f} times, that of the others {room['rnn']:.1f} and "
        f"{room['lstm']:.1f} times.",
    ]
    # What is said, of whom, and whether it is so.
    parts: list[tuple[str, set[str], bool]] = [
        (
            "attention remembers at every distance",
            {"Transformer"},
            reached["Transformer"] == max(DISTANCES),
        ),
        (
            "with attention an LSTM remembers better at the largest distance",
            {"LSTM", "LSTM with attention"},
            worse(farthest["LSTM"], farthest["LSTM with attention"], lower=False),
        ),
        (
            "an LSTM remembers further than an RNN",
            {"LSTM", "RNN"},
            reached["LSTM"] > reached["RNN"],
        ),
        ("an RNN forgets after about 50", {"RNN"}, 25 <= reached["RNN"] <= 50),
        ("an LSTM forgets after about 200", {"LSTM"}, 100 <= reached["LSTM"] < max(DISTANCES)),
        (
            "the time of attention grows faster with length",
            set(),
            growth["transformer"] > growth["rnn"],
        ),
        (
            "so does its memory",
            set(),
            room["transformer"] > max(room["rnn"], room["lstm"]),
        ),
        (
            "attention is faster at 64 tokens",
            set(),
            costs["transformer"][0] < costs["lstm"][0],
        ),
    ]
    judged = [part for part in parts if part[1] <= learned]
    held, failed = (
        [said for said, _, holds in judged if holds is which] for which in (True, False)
    )
    reasons.append(f"So it is that {listed(held)}; and not that {listed(failed)}.")
    if not failed and len(judged) == len(parts):
        verdict = Verdict("holds", reasons)
    elif held:
        verdict = Verdict("holds when", reasons, f"{len(held)} of its {len(parts)} parts are meant")
    else:
        verdict = Verdict("does not hold", reasons)
    rows = [
        [name, f"{one.parameters:,}", *(share.told() for share in shares[name].values())]
        for name, one in runs.items()
    ]
    columns = ["network", "parameters", *(f"{d} letters" for d in DISTANCES)]
    return Page(figure, columns, rows, verdict)


CLAIM = Claim(
    "An RNN forgets after about 50 words and an LSTM after about 200, while attention does not; attention computes "
    "n x n where an RNN computes n, and it runs in parallel.",
    variants("recall.yaml", CHANGES, predicted=True),
    found,
)
