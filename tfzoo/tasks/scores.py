"""Figures of evaluation, pooled over batches and devices as sums and counts: average loss, BLEU and chrF.

BLEU and chrF are no averages of sentences: both add up counts over the corpus and divide once.
"""

from __future__ import annotations

import torch
from sacrebleu.metrics import BLEU, CHRF
from torch import Tensor
from torchmetrics import Metric


class AverageLoss(Metric):
    """The mean of losses that come as sums, every one counted once.

    In float64, where adding the same sums in another order, as several devices do, gives the same.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """The sum of some losses, and their number; both scalars."""
        self.total += total.detach()
        self.count += count

    def compute(self) -> Tensor:
        """Scalar, float32."""
        return (self.total / self.count.clamp(min=1)).float()


class TranslationScores(Metric):
    """Corpus BLEU (Papineni et al. 2002; Post 2018) and chrF (Popović 2015), in percent.

    Args:
        tokenize: sacrebleu's tokenizer for BLEU: "13a", "zh", "char" and so on.
    """

    full_state_update = False
    bleu_counts: Tensor
    chrf_counts: Tensor

    def __init__(self, tokenize: str = "13a") -> None:
        super().__init__()
        self.bleu, self.chrf = BLEU(tokenize=tokenize), CHRF()
        bleu = len(self._counts(self.bleu, ["a"], ["a"]))
        chrf = len(self._counts(self.chrf, ["a"], ["a"]))
        self.add_state("bleu_counts", torch.zeros(bleu, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("chrf_counts", torch.zeros(chrf, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, hypotheses: list[str], references: list[str]) -> None:
        """One reference per hypothesis, both as plain text."""
        if not hypotheses:
            return
        for state, metric in ((self.bleu_counts, self.bleu), (self.chrf_counts, self.chrf)):
            counts = self._counts(metric, hypotheses, references)
            state += torch.tensor(counts, dtype=state.dtype, device=state.device)

    def compute(self) -> dict[str, float]:
        """{"bleu": ..., "chrf": ...}, 0 to 100."""
        return {
            "bleu": self._score(self.bleu, self.bleu_counts),
            "chrf": self._score(self.chrf, self.chrf_counts),
        }

    def signatures(self) -> dict[str, str]:
        """What the figures mean, in sacrebleu's words."""
        for metric in (self.bleu, self.chrf):
            metric.corpus_score(
                ["a"], [["a"]]
            )  # a signature knows its references only after a score
        return {"bleu": str(self.bleu.get_signature()), "chrf": str(self.chrf.get_signature())}

    @staticmethod
    def _counts(metric: BLEU | CHRF, hypotheses: list[str], references: list[str]) -> list[int]:
        statistics = metric._extract_corpus_statistics(hypotheses, [references])
        return [sum(column) for column in zip(*statistics, strict=True)]

    @staticmethod
    def _score(metric: BLEU | CHRF, counts: Tensor) -> float:
        return float(metric._compute_score_from_stats([int(c) for c in counts.tolist()]).score)
