"""Who asks and who is asked: alignment of a decoder that asks the encoder, and what becomes of exchanged roles."""

from __future__ import annotations

from collections.abc import Mapping

from looking import Looked, translator
from matplotlib.figure import Figure
from study import Claim, Page, Runs, Verdict, dots, variants, worse

CLASS = "--model.class_path=exchanged.Exchanged"
CHANGES = {
    "the decoder asks": [],
    "the encoder asks": [CLASS],
    "the encoder asks, no future": [CLASS, "--model.init_args.future=false"],
}
NUMBER = ("two hundred nineteen thousand eighty four", "2 1 9 0 8 4")


def found(runs: Mapping[str, Runs]) -> Page:
    bleu = {name: one.test("test/bleu") for name, one in runs.items()}
    losses = {name: one.last("train/loss") for name, one in runs.items()}
    looked = Looked(translator(runs["the decoder asks"].checkpoints()[0]), *NUMBER)
    figure = Figure(figsize=(10.5, 3.8))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.imshow(
        looked.of("cross_attention")[-1].mean(0), cmap="Blues", vmin=0, vmax=1, aspect="auto"
    )
    left.set_xticks(range(len(looked.source)), looked.source, rotation=60, fontsize=8)
    left.set_yticks(range(len(looked.target)), looked.target, fontsize=8)
    left.set_title("the decoder asks: what each digit (row) looks at, mean of heads", fontsize=9)
    dots(right, bleu, "BLEU, generated")
    right.set_xticks(
        range(len(bleu)), [name.replace(" asks", "\nasks") for name in bleu], fontsize=8
    )
    figure.tight_layout()
    right_roles, leaking, blind = bleu.values()
    breaks = all(worse(other, right_roles, lower=False) for other in (leaking, blind))
    leaks = worse(losses["the decoder asks"], losses["the encoder asks"])
    reasons = [
        f"With queries from the decoder, keys and values from the encoder, translators reach {right_roles.told(1)} "
        f"BLEU; "
        f"with roles exchanged {leaking.told(1)}, and {blind.told(1)} where answers may not come from the future.",
        f"Exchanged, there is an answer for each word of the source and none for a digit beyond; "
        f"{'it tells the decoder its own future' if leaks else 'it does not help the training'}: the training loss "
        f"ends at "
        f"{losses['the encoder asks'].told(3)} nats a token, at {losses['the decoder asks'].told(3)} with the right "
        f"roles, and "
        f"at {losses['the encoder asks, no future'].told(3)} without the future.",
    ]
    rows = [
        [name, losses[name].told(3), one.test("test/loss").told(3), bleu[name].told(1)]
        for name, one in runs.items()
    ]
    columns = [
        "cross-attention",
        "training loss, last",
        "test loss, true words given",
        "BLEU, generated",
    ]
    return Page(figure, columns, rows, Verdict("holds" if breaks else "does not hold", reasons))


CLAIM = Claim(
    "Cross-attention takes queries from the decoder, keys and values from the encoder.",
    variants("translation.yaml", CHANGES),
    found,
)
