"""Scores of translations are sacrebleu's own, also when they come in parts."""

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from tfzoo.tasks.scores import TranslationScores

HYPOTHESES = ["the cat sat on the mat", "a dog", "", "完了", "it rains in Spain today", "same"]
REFERENCES = [
    "the cat is on the mat",
    "two dogs barked",
    "x",
    "完了。",
    "it rained in Spain",
    "same",
]


def scored(tokenize: str, *parts: slice) -> TranslationScores:
    scores = TranslationScores(tokenize)
    for part in parts:
        scores.update(HYPOTHESES[part], REFERENCES[part])
    return scores


@pytest.mark.parametrize("tokenize", ["13a", "zh", "char"])
@pytest.mark.parametrize(
    "parts",
    [
        [slice(6)],
        [slice(3), slice(3, 6)],
        [slice(i, i + 1) for i in range(6)],
        [slice(6), slice(0)],
    ],
    ids=["at once", "halves", "one by one", "and nothing"],
)
def test_scores_are_sacrebleus(tokenize, parts):
    scores, found = scored(tokenize, *parts), {}
    found["bleu"] = BLEU(tokenize=tokenize).corpus_score(HYPOTHESES, [REFERENCES])
    found["chrf"] = CHRF().corpus_score(HYPOTHESES, [REFERENCES])
    for name, score in found.items():
        assert scores.compute()[name] == pytest.approx(score.score, abs=1e-9)
        assert score.score > 0


def test_signatures_are_sacrebleus():
    bleu, chrf = BLEU(tokenize="zh"), CHRF()
    for metric in (bleu, chrf):
        metric.corpus_score(HYPOTHESES, [REFERENCES])
    scores = scored("zh", slice(3))
    before = scores.compute()
    assert scores.signatures() == {
        "bleu": str(bleu.get_signature()),
        "chrf": str(chrf.get_signature()),
    }
    assert scores.compute() == before


def test_nothing_scores_nothing_and_a_reset_forgets():
    scores = scored("13a", slice(6))
    scores.reset()
    assert scores.compute() == {"bleu": 0, "chrf": 0}


def test_counts_add_up_over_devices():
    # What a metric sends to the other devices are sums.
    one, other, whole = scored("13a", slice(2)), scored("13a", slice(2, 6)), scored("13a", slice(6))
    for name in ("bleu_counts", "chrf_counts"):
        total = getattr(one, name) + getattr(other, name)
        assert torch.equal(total, getattr(whole, name))
        assert one._reductions[name].__name__ == "dim_zero_sum"
