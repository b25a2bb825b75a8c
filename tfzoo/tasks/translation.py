"""Translation: an encoder-decoder trained by teacher forcing (Vaswani et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tfzoo.backbone import TransformerConfig, capture
from tfzoo.data.batching import IGNORE, TranslationBatch
from tfzoo.data.translation import TranslationFacts
from tfzoo.layout import Layout
from tfzoo.models import Beam, DecoderOnly, Greedy, Limits, Seq2Seq, Tying, decode
from tfzoo.tasks.looks import layers
from tfzoo.tasks.scores import TranslationScores
from tfzoo.tasks.task import Loss, Row, Task
from tfzoo.tracking.attention_pictures import AttentionPicture, Layer, LinesPicture
from tfzoo.tracking.figures import Picture
from tfzoo.training.optim import OptimizerFactory, Schedule


class Translation(Task):
    """Source text to target text.

    Validation decodes greedily, test and `tfzoo translate` by beam search; both log BLEU and chrF of plain text.

    Args:
        backbone: shape of the encoder and of the decoder.
        architecture: "encoder-decoder", or "decoder-only", which reads the source as the beginning of its own text
            (`DecoderOnly`); backbone.max_length must then hold both.
        tie: which embeddings are shared: "output" the target's with the output layer, "all" also the source's.
        label_smoothing: share of the target probability spread over the vocabulary (Szegedy et al. 2016).
        beam_size: beams of test and translate; 1 is greedy.
        length_penalty: above 0 favours longer translations, see `tfzoo.models.Beam`.
        max_extra_tokens: a translation may be this many tokens longer than its source.
        optimizer: of parameter groups.
        schedule: the learning rate over time.
        facts: linked from the data.
    """

    facts_class = TranslationFacts
    facts: TranslationFacts
    network: Seq2Seq | DecoderOnly
    columns = ("source", "reference", "translation")
    counted = "tokens"
    best = ("val/chrf", "max")
    fixed = ("tie", "architecture")

    def __init__(
        self,
        backbone: TransformerConfig,
        tie: Tying = "output",
        label_smoothing: float = 0.1,
        beam_size: int = 4,
        length_penalty: float = 0.6,
        max_extra_tokens: int = 50,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        facts: TranslationFacts | None = None,
        architecture: Literal["encoder-decoder", "decoder-only"] = "encoder-decoder",
    ) -> None:
        settings = {
            "backbone": backbone,
            "architecture": architecture,
            "tie": tie,
            "label_smoothing": label_smoothing,
            "beam_size": beam_size,
            "length_penalty": length_penalty,
            "max_extra_tokens": max_extra_tokens,
        }
        super().__init__(facts, settings, optimizer, schedule)
        self.beam, self.max_extra_tokens = Beam(beam_size, length_penalty), max_extra_tokens
        self.label_smoothing = label_smoothing
        lengths = self.facts.longest_source, self.facts.longest_target
        alone = architecture == "decoder-only"
        self.check_length(sum(lengths) if alone else max(lengths), backbone)
        vocabularies = self.facts.source.vocab_size, self.facts.target.vocab_size
        self.network = (DecoderOnly if alone else Seq2Seq)(backbone, *vocabularies, tie)
        self.scores = TranslationScores(self.facts.bleu_tokenize)

    def loss(self, batch: TranslationBatch) -> Loss:
        """Cross-entropy of each target token given the source and the true tokens before it."""
        return self._cross_entropy(self._logits(batch), batch.labels, self.label_smoothing)

    def _logits(self, batch: TranslationBatch) -> Tensor:
        return self.network(batch.source, batch.source_layout, batch.target, batch.target_layout)

    @staticmethod
    def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Loss:
        total = F.cross_entropy(
            logits.flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return Loss(total, (labels != IGNORE).sum())

    def validation_step(self, batch: TranslationBatch, index: int) -> dict[str, list[Row]]:
        return self._evaluate(batch, "val", Greedy())

    def test_step(self, batch: TranslationBatch, index: int) -> dict[str, list[Row]]:
        return self._evaluate(batch, "test", self.beam)

    def predict_step(self, batch: TranslationBatch, index: int) -> list[dict[str, Any]]:
        return [
            {"source": source, "reference": reference, "translation": translation}
            for source, reference, translation in zip(
                batch.source_text,
                batch.target_text,
                self._decode(batch.source, batch.source_layout, self.beam),
                strict=True,
            )
        ]

    def _evaluate(
        self, batch: TranslationBatch, stage: str, strategy: Beam | Greedy
    ) -> dict[str, list[Row]]:
        loss = self._cross_entropy(self._logits(batch), batch.labels)
        self.log_average(f"{stage}/loss", loss)
        translations = self._decode(batch.source, batch.source_layout, strategy)
        self.scores.update(translations, batch.target_text)
        rows = zip(batch.source_text, batch.target_text, translations, strict=True)
        return {"rows": [list(row) for row in rows]}

    @property
    def text_positions(self) -> int:
        """A decoder alone keeps half of its positions for the translation."""
        positions = super().text_positions
        return positions // 2 if isinstance(self.network, DecoderOnly) else positions

    def _finish(self, stage: str) -> None:
        for name, value in self.scores.compute().items():
            self.log(f"{stage}/{name}", value, prog_bar=True)  # pooled: the same on every device
        self.scores.reset()

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def notes(self) -> dict[str, Any]:
        return super().notes() | self.scores.signatures()

    def _decode(self, source: Tensor, layout: Layout, strategy: Beam | Greedy) -> list[str]:
        target = self.facts.target
        length = source.shape[1]
        room = self.network.room(length) - 1
        alone = isinstance(self.network, DecoderOnly)
        if alone and room < length + self.max_extra_tokens and len(source) > 1:
            # What the longest leaves is no measure for the others.
            rows = torch.arange(len(source), device=source.device).split(1)
            each = (self.first_text(source[row], layout.select(row)) for row in rows)
            return [text for one in each for text in self._decode(*one, strategy)]
        longest = min(length + self.max_extra_tokens, room)
        start = torch.full((len(source), 1), target.bos, device=source.device)
        forbidden = (target.pad, target.bos, target.unk, target.cls)
        found = decode(
            self.network.steps(source, layout, capacity=longest + 1),
            start,
            strategy,
            Limits(target.eos, longest, forbidden),
        )
        return [target.decode(best[0].tokens) for best in found]

    @torch.inference_mode()
    def translate(
        self, texts: Sequence[str], batch_size: int = 32, truncate: bool = False
    ) -> Iterator[str]:
        """Translations of the texts, in their order.

        A text too long for the model raises ValueError, or is cut and counted in `self.truncated`.
        """
        tokenizer = self.facts.source
        rows = self.fitted(tokenizer.encode_batch(texts), [tokenizer.eos], truncate)
        for start in range(0, len(rows), batch_size):
            source, layout = self.padded(rows[start : start + batch_size], tokenizer.pad)
            yield from self._decode(source, layout, self.beam)

    @torch.inference_mode()
    def pictures(self, batch: TranslationBatch) -> list[Picture]:
        """The alignment of the first text with its translation, and the three kinds of attention, head by head.

        While the network translates it by nothing, the reference stands for the translation.
        """
        source, layout = self.first_text(batch.source, batch.source_layout)
        target = self.facts.target
        translation, caption = self._decode(source, layout, Greedy())[0], "the translation"
        if not translation.strip():
            translation, caption = batch.target_text[0], "the reference, for want of a translation"
        room = self.network.room(source.shape[1]) - 1
        ids = [target.bos, *target.encode(translation)[:room]]
        with capture(self.network) as weights:
            self.network(
                source,
                layout,
                torch.tensor([ids], device=self.device),
                Layout.full(1, len(ids), self.device),
            )
        # The row of a token is the step that read it and chose the next: label it with what was chosen.
        chosen = [target.token(i) for i in ids[1:]] + ["<eos>"]
        keys = [self.facts.source.token(i) for i in source[0].tolist()]
        read = [target.token(i) for i in ids]
        cross = layers(weights, "cross_attention")
        encoder = layers(weights, "encoder.")
        decoder = layers(weights, "self_attention", "decoder.")
        if isinstance(self.network, DecoderOnly):  # one attention, of both and to both
            cross, encoder, decoder = (
                [Layer(name, each[:, asking, asked]) for name, each in decoder]
                for asking, asked in _quarters(len(keys))
            )
        aligned = [
            AttentionPicture("alignment", layer.weights, chosen, keys, f"last layer, {caption}")
            for layer in cross[-1:]
        ]
        lines = [
            LinesPicture("attention-cross", cross, chosen, keys, caption),
            LinesPicture("attention-encoder", encoder, keys, keys),
            LinesPicture("attention-decoder", decoder, read, read, caption),
        ]
        return [*aligned, *(p for p in lines if p.layers), *super().pictures(batch)]


def _quarters(source: int) -> tuple[tuple[slice, slice], ...]:
    """Of attention within a source and the target behind it: target to source, source and target each to itself."""
    first, rest = slice(None, source), slice(source, None)
    return (rest, first), (first, first), (rest, rest)
