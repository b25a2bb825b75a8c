"""Tasks in the shape that they want, and in another: no encoder for a translator, no future for a classifier."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from study import Claim, Page, Runs, Variant, Verdict, above, dots

CAUSAL = "--model.backbone.causal=true"
TRANSLATION = {
    "encoder-decoder": (),
    "decoder only": ("--model.architecture=decoder-only", "--model.backbone.depth=5"),
}
IMAGES = {"encoder": (), "causal": (CAUSAL,)}
TEXTS = {
    "encoder, first token": ("--model.pooling=cls",),
    "causal, first token": ("--model.pooling=cls", CAUSAL),
}
TEXTS |= {"encoder, mean": (), "causal, mean": (CAUSAL,)}


def found(runs: Mapping[str, Runs]) -> Page:
    figure = Figure(figsize=(11, 3.4))
    parts = figure.subplots(1, 3, width_ratios=(2, 4, 2))
    shown = [
        ("translation", TRANSLATION, "test/bleu", "BLEU"),
        ("text classification", TEXTS, "test/accuracy", "accuracy"),
        ("image classification", IMAGES, "test/accuracy", "accuracy"),
    ]
    rows, spreads = [], {}
    for axes, (task, those, metric, label) in zip(parts, shown, strict=True):
        spreads[task] = {name: runs[f"{task}, {name}"].test(metric) for name in those}
        dots(axes, spreads[task], label)
        axes.set_xticks(
            range(len(those)), [name.replace(", ", ",\n") for name in those], fontsize=7
        )
        axes.set_title(task, fontsize=9)
        digits = 1 if label == "BLEU" else 3
        rows += [
            [f"{task}: {n}", label, spread.told(digits)] for n, spread in spreads[task].items()
        ]
    figure.tight_layout()
    loses = {
        "a decoder-only translator": above(*spreads["translation"].values()),
        "a causal classifier that reads the first token": above(
            spreads["text classification"]["encoder, first token"],
            spreads["text classification"]["causal, first token"],
        ),
        "a causal classifier that reads the mean": above(
            spreads["text classification"]["encoder, mean"],
            spreads["text classification"]["causal, mean"],
        ),
        "a causal image classifier": above(*spreads["image classification"].values()),
    }
    lost, kept = (
        [name for name, worse in loses.items() if worse is which] for which in (True, False)
    )
    text, translation = spreads["text classification"], spreads["translation"]
    reasons = [
        f"Translating without an encoder reaches {translation['decoder only'].told(1)} BLEU, with one "
        f"{translation['encoder-decoder'].told(1)}.",
        f"A causal classifier's first token has seen nothing but itself: {text['causal, first token'].told(3)}, an "
        f"encoder's "
        f"{text['encoder, first token'].told(3)}; the mean over tokens reaches {text['causal, mean'].told(3)} and "
        f"{text['encoder, mean'].told(3)}.",
    ]
    if not kept:
        verdict = Verdict("holds", reasons)
    elif lost:
        verdict = Verdict(
            "holds when",
            reasons,
            f"it is said of {' and '.join(lost)}; {' and '.join(kept)} does as well",
        )
    else:
        verdict = Verdict("does not hold", reasons)
    return Page(figure, ["shape", "metric", "test"], rows, verdict)


CLAIM = Claim(
    "Translation wants an encoder and a decoder, classification an encoder, generation a decoder.",
    [
        *(
            Variant(f"translation, {n}", "translation.yaml", flags)
            for n, flags in TRANSLATION.items()
        ),
        *(Variant(f"text classification, {n}", "texts.yaml", flags) for n, flags in TEXTS.items()),
        *(
            Variant(f"image classification, {n}", "images.yaml", flags)
            for n, flags in IMAGES.items()
        ),
    ],
    found,
)
