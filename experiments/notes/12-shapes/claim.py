"""Tasks in the shape that they want, and in another: no encoder for a translator, no future for a classifier."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from study import Claim, Page, Runs, Variant, Verdict, dots, listed, worse

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
    text, translation, image = (
        spreads["text classification"],
        spreads["translation"],
        spreads["image classification"],
    )
    loses = {
        "a decoder-only translator": worse(
            translation["decoder only"], translation["encoder-decoder"], lower=False
        ),
        "a causal classifier of texts": worse(
            text["causal, mean"], text["encoder, mean"], lower=False
        ),
        "a causal classifier of images": worse(image["causal"], image["encoder"], lower=False),
    }
    lost, kept = (
        [name for name, worse in loses.items() if worse is which] for which in (True, False)
    )
    reasons = [
        f"Translating without an encoder reaches {translation['decoder only'].told(1)} BLEU, with one "
        f"{translation['encoder-decoder'].told(1)}.",
        f"A causal classifier of texts reaches {text['causal, mean'].told(3)} and an encoder "
        f"{text['encoder, mean'].told(3)}, "
        f"read from the mean over tokens; of images {image['causal'].told(3)} and {image['encoder'].told(3)}.",
        f"A causal classifier's first token has seen nothing but itself: {text['causal, first token'].told(3)}, an "
        f"encoder's {text['encoder, first token'].told(3)}.",
    ]
    if not kept:
        verdict = Verdict("holds", reasons)
    elif lost:
        when = f"it is said of {listed(lost)}: {listed(kept)} does as well"
        verdict = Verdict("holds when", reasons, when)
    else:
        verdict = Verdict("does not hold", reasons)
    return Page(figure, ["shape", "metric", "test"], rows, verdict)


CLAIM = Claim(
    "Translation wants an encoder and a decoder, classification an encoder: another shape does worse.",
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
