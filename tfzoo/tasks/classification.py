"""Classification of texts as BERT does, and of images as ViT does: an encoder and a linear layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from tfzoo.backbone import TransformerConfig, capture
from tfzoo.data.batching import ImageBatch, TextBatch
from tfzoo.data.image_classification import ImageFacts
from tfzoo.data.text_classification import TextFacts
from tfzoo.models import ImageClassifier, Pooling, TextClassifier
from tfzoo.tasks.looks import layers, positions
from tfzoo.tasks.task import Loss, Row, Task
from tfzoo.tracking.attention_pictures import AttentionPicture, Layer, LinesPicture
from tfzoo.tracking.confusion import ConfusionPicture
from tfzoo.tracking.figures import Picture
from tfzoo.tracking.image_pictures import PatchPicture
from tfzoo.training.optim import OptimizerFactory, Schedule

CONFUSED = 128
"""Classes whose confusion is counted, at most: more are too many to see, and to pool over devices."""


class Classification(Task):
    """What texts and images have in common: cross-entropy over classes, accuracy and macro F1."""

    facts: TextFacts | ImageFacts
    best = ("val/accuracy", "max")

    def build_metrics(self, label_smoothing: float) -> None:
        classes = len(self.facts.labels)
        self.label_smoothing = label_smoothing
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "f1": MulticlassF1Score(classes, average="macro"),
            }
        )
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.confusion = MulticlassConfusionMatrix(classes) if classes <= CONFUSED else None
        self.counts: np.ndarray | None = None  # (V, V) of the last validation

    def logits(self, batch: Any) -> Tensor:
        """(N, V) for the N samples of the batch."""
        raise NotImplementedError

    def row(self, batch: Any, index: int) -> Any:
        """The sample as a person sees it."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Loss:
        return self.cross_entropy(self.logits(batch), batch.labels, self.label_smoothing)

    @staticmethod
    def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Loss:
        """labels: (N,) classes or (N, V) probabilities."""
        total = F.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
        return Loss(total, torch.tensor(len(labels), device=labels.device))

    def validation_step(self, batch: Any, index: int) -> dict[str, list[Row]]:
        return self._evaluate(batch, "val", self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        if self.confusion is not None:
            self.counts = self.confusion.compute().cpu().numpy()  # pooled over devices, on each
            self.confusion.reset()

    def summary(self) -> list[Picture]:
        if self.counts is None:
            return []
        return [ConfusionPicture("confusion", self.counts, self.facts.labels)]

    def test_step(self, batch: Any, index: int) -> dict[str, list[Row]]:
        return self._evaluate(batch, "test", self.test_metrics)

    def predict_step(self, batch: Any, index: int) -> list[dict[str, Any]]:
        probabilities = self.logits(batch).float().softmax(-1)
        return [
            {"label": self.facts.labels[p.argmax()], "probability": p.max().item()}
            for p in probabilities
        ]

    def _evaluate(self, batch: Any, stage: str, metrics: MetricCollection) -> dict[str, list[Row]]:
        """Logs loss and metrics; returns the misread samples."""
        logits = self.logits(batch)
        self.log_average(f"{stage}/loss", self.cross_entropy(logits, batch.labels))
        metrics.update(logits, batch.labels)
        if self.confusion is not None and stage == "val":
            self.confusion.update(logits, batch.labels)
        self.log_dict(metrics, prog_bar=True, on_epoch=True)
        probabilities = logits.float().softmax(-1)
        wrong = (probabilities.argmax(-1) != batch.labels).nonzero()[:, 0].tolist()
        labels = self.facts.labels
        rows: list[Row] = [
            [
                self.row(batch, i),
                labels[batch.labels[i]],
                labels[probabilities[i].argmax()],
                round(probabilities[i].max().item(), 3),
            ]
            for i in wrong
        ]
        return {"rows": rows}


class TextClassification(Classification):
    """Text to one of several classes, with learned positions as in BERT (Devlin et al. 2019).

    Args:
        backbone: shape of the encoder.
        pooling: "cls" classifies the first token, "mean" the mean over tokens.
        label_smoothing: share of the target probability spread over the classes.
        token_dropout: share of the input tokens that training hides behind <unk>.
        masked_lm: weight of masked language modelling (Devlin et al. 2019): the hidden tokens are to be named, by the
            embedding as output weights; 0 leaves it out, otherwise token_dropout must be above 0.
        consistency: weight of R-Drop (Liang et al. 2021): each training text is read twice, under different dropout,
            and the two readings are drawn towards each other; 0 reads once.
        optimizer: of parameter groups.
        schedule: the learning rate over time.
        facts: linked from the data.
    """

    facts_class = TextFacts
    facts: TextFacts
    network: TextClassifier
    columns = ("text", "label", "read as", "probability")
    counted = "texts"
    fixed = ("pooling",)

    def __init__(
        self,
        backbone: TransformerConfig,
        pooling: Pooling = "cls",
        label_smoothing: float = 0.0,
        token_dropout: float = 0.0,
        masked_lm: float = 0.0,
        consistency: float = 0.0,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        facts: TextFacts | None = None,
    ) -> None:
        settings = {
            "backbone": backbone,
            "pooling": pooling,
            "label_smoothing": label_smoothing,
            "token_dropout": token_dropout,
            "masked_lm": masked_lm,
            "consistency": consistency,
        }
        super().__init__(facts, settings, optimizer, schedule)
        self.check_length(self.facts.longest, backbone)
        if masked_lm and not token_dropout:
            raise ValueError(
                "masked_lm needs tokens to name: set token_dropout above 0, such as 0.15"
            )
        self.token_dropout, self.masked_lm, self.consistency = token_dropout, masked_lm, consistency
        self.network = TextClassifier(
            backbone, self.facts.tokenizer.vocab_size, len(self.facts.labels), pooling
        )
        self.build_metrics(label_smoothing)

    def logits(self, batch: TextBatch) -> Tensor:
        return self.network(batch.tokens, batch.layout, batch.first)

    def loss(self, batch: TextBatch) -> Loss:
        if not self.training:
            return super().loss(batch)
        logits, total = self._training_reading(batch)
        if self.consistency:
            again, other = self._training_reading(batch)
            p, q = (reading.float().log_softmax(-1) for reading in (logits, again))
            # The mean of both Kullback-Leibler divergences.
            apart = ((p.exp() - q.exp()) * (p - q)).sum() / 2
            total = (total + other) / 2 + self.consistency * apart
        return Loss(total, torch.tensor(len(batch.labels), device=total.device))

    def _training_reading(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """Logits (N, V) of the texts with some tokens masked, and the sum of their losses, masked_lm's included."""
        tokens, masked = batch.tokens, None
        if self.token_dropout:
            masked = torch.rand(tokens.shape, device=tokens.device) < self.token_dropout
            for special in (
                self.facts.tokenizer.cls,
                self.facts.tokenizer.sep,
                self.facts.tokenizer.unk,
            ):
                masked &= tokens != special
            masked &= batch.layout.segments > 0
            fed = tokens.masked_fill(masked, self.facts.tokenizer.unk)
        else:
            fed = tokens
        if masked is None or not self.masked_lm:
            logits = self.network(fed, batch.layout, batch.first)
            return logits, self.cross_entropy(logits, batch.labels, self.label_smoothing).total
        logits, guesses = self.network(fed, batch.layout, batch.first, masked)
        total = self.cross_entropy(logits, batch.labels, self.label_smoothing).total
        named = F.cross_entropy(guesses.float(), tokens[masked], reduction="sum")
        # A mean over tokens, a sum over texts: as much for each text as its class is.
        total = total + self.masked_lm * len(batch.labels) * named / masked.sum().clamp(min=1)
        return logits, total

    def row(self, batch: TextBatch, index: int) -> str:
        return batch.text[index]

    def predict_step(self, batch: TextBatch, index: int) -> list[dict[str, Any]]:
        found = super().predict_step(batch, index)
        return [{"text": t, **row} for t, row in zip(batch.text, found, strict=True)]

    @torch.inference_mode()
    def classify(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        batch_size: int = 32,
        truncate: bool = False,
    ) -> Iterator[dict[str, float]]:
        """For each text, or pair of texts, its classes with their probabilities, likeliest first.

        A text too long for the model raises ValueError, or is cut and counted in `self.truncated`.
        """
        fitted = self.fitted(self.facts.encode(texts), truncate=truncate)
        for start in range(0, len(fitted), batch_size):
            rows = fitted[start : start + batch_size]
            tokens, layout = self.padded(rows, self.facts.tokenizer.pad)
            first = torch.arange(len(rows), device=self.device) * tokens.shape[1]
            yield from ranked(self.network(tokens, layout, first), self.facts.labels)

    @torch.inference_mode()
    def pictures(self, batch: TextBatch) -> list[Picture]:
        """Which tokens of the first text look at which: each head of the last block, and of several blocks."""
        tokens, layout = self.first_text(batch.tokens, batch.layout)
        with capture(self.network) as weights:
            self.network(tokens, layout, torch.zeros(1, dtype=torch.long, device=self.device))
        pieces = [self.facts.tokenizer.token(i) for i in tokens[0].tolist()]
        seen = layers(weights)
        if not seen:
            return super().pictures(batch)
        return [
            AttentionPicture("attention", seen[-1].weights, pieces, pieces, "last layer"),
            LinesPicture("attention-lines", seen, pieces, pieces),
            *super().pictures(batch),
        ]


class ImageClassification(Classification):
    """Image to one of several classes through patches (Dosovitskiy et al. 2021).

    Args:
        backbone: shape of the encoder; max_length must hold all patches and the class token.
        patch: side of a patch in pixels.
        pooling: "cls" classifies the class token, "mean" the mean over tokens.
        label_smoothing: share of the target probability spread over the classes.
        mixup: strength of mixing pairs of images (Zhang et al. 2018); 0 for none.
        cutmix: strength of pasting patches of one image into another (Yun et al. 2019); 0 for none.
        optimizer: of parameter groups.
        schedule: the learning rate over time.
        facts: linked from the data.
    """

    facts_class = ImageFacts
    facts: ImageFacts
    network: ImageClassifier
    columns = ("image", "label", "read as", "probability")
    counted = "images"
    fixed = ("patch", "pooling")

    def __init__(
        self,
        backbone: TransformerConfig,
        patch: int = 16,
        pooling: Pooling = "cls",
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        facts: ImageFacts | None = None,
    ) -> None:
        settings = {
            "backbone": backbone,
            "patch": patch,
            "pooling": pooling,
            "label_smoothing": label_smoothing,
            "mixup": mixup,
            "cutmix": cutmix,
        }
        super().__init__(facts, settings, optimizer, schedule)
        classes = len(self.facts.labels)
        self.network = ImageClassifier(
            backbone, self.facts.size, patch, self.facts.channels, classes, pooling
        )
        self.mix = None
        if mixup or cutmix:
            from timm.data import Mixup

            self.mix = Mixup(mixup, cutmix, label_smoothing=label_smoothing, num_classes=classes)
        self.build_metrics(label_smoothing)

    def logits(self, batch: ImageBatch) -> Tensor:
        return self.network(batch.images)

    def loss(self, batch: ImageBatch) -> Loss:
        # Mixup pairs each image with another of its batch: an odd one out stays as it is.
        if self.mix is None or not self.training or len(batch.labels) % 2:
            return super().loss(batch)
        images, targets = self.mix(batch.images.clone(), batch.labels)  # it mixes in place
        return self.cross_entropy(self.network(images), targets)

    def row(self, batch: ImageBatch, index: int) -> np.ndarray:
        return self.picture(batch.images[index])

    def picture(self, image: Tensor) -> np.ndarray:
        """An input image as it was before normalising: (h, w) or (h, w, 3) in 0..1."""
        mean = torch.tensor(self.facts.mean, device=image.device)[:, None, None]
        std = torch.tensor(self.facts.std, device=image.device)[:, None, None]
        pixels = (image.float() * std + mean).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        return pixels[..., 0] if pixels.shape[-1] == 1 else pixels

    @torch.inference_mode()
    def classify(self, images: Sequence[Any], batch_size: int = 32) -> Iterator[dict[str, float]]:
        """images: PIL images. For each its classes with their probabilities, likeliest first."""
        transform = self.facts.transform()
        for start in range(0, len(images), batch_size):
            pixels = torch.stack([transform(image) for image in images[start : start + batch_size]])
            yield from ranked(self.network(pixels.to(self.device)), self.facts.labels)

    @torch.inference_mode()
    def pictures(self, batch: ImageBatch) -> list[Picture]:
        """Which patches the class token of the first image looks at: each head of several blocks."""
        with capture(self.network) as weights:
            probabilities = self.network(batch.images[:1]).float().softmax(-1)[0]
        grid = self.network.embedding.grid
        seen = [
            Layer(name, matrix[:, 0, 1:].reshape(-1, grid, grid))
            for name, matrix in layers(weights)
        ]
        if not seen:
            return super().pictures(batch)
        label = self.facts.labels[batch.labels[0]]
        read = self.facts.labels[probabilities.argmax()]
        caption = f"{label}, read as {read} ({probabilities.max():.0%})"
        return [
            PatchPicture("attention", seen, self.picture(batch.images[0]), caption),
            *positions(self.network, grid),
        ]


def ranked(logits: Tensor, labels: Sequence[str]) -> Iterator[dict[str, float]]:
    """logits: (N, V). For each row its labels with probabilities, likeliest first."""
    for probabilities in logits.float().softmax(-1):
        order = probabilities.argsort(descending=True).tolist()
        yield {labels[i]: probabilities[i].item() for i in order}
