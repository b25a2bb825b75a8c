"""Generation: a decoder-only language model (Radford et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tfzoo.backbone import TransformerConfig, capture
from tfzoo.data.batching import IGNORE, LanguageBatch
from tfzoo.data.generation import LanguageFacts
from tfzoo.models import Greedy, LanguageModel, Limits, Sampling, decode
from tfzoo.tasks.looks import layers
from tfzoo.tasks.task import Loss, Row, Task
from tfzoo.tracking.attention_pictures import AttentionPicture, LinesPicture
from tfzoo.tracking.figures import Picture
from tfzoo.training.optim import OptimizerFactory, Schedule


class Generation(Task):
    """Text that goes on: each token predicted from those before it.

    Logs the loss in nats per token, perplexity, and bits per character, which compares across tokenizers.

    Args:
        backbone: shape of the stack.
        tie: whether the embedding is also the output layer.
        prompt: what the samples logged during training begin with.
        sample_tokens: length of those samples.
        temperature: of those samples.
        optimizer: of parameter groups.
        schedule: the learning rate over time.
        facts: linked from the data.
    """

    facts_class = LanguageFacts
    facts: LanguageFacts
    network: LanguageModel
    columns = ("prompt", "text")
    counted = "tokens"
    fixed = ("tie",)

    def __init__(
        self,
        backbone: TransformerConfig,
        tie: bool = True,
        prompt: str = "\n",
        sample_tokens: int = 200,
        temperature: float = 0.8,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        facts: LanguageFacts | None = None,
    ) -> None:
        settings = {
            "backbone": backbone,
            "tie": tie,
            "prompt": prompt,
            "sample_tokens": sample_tokens,
            "temperature": temperature,
        }
        super().__init__(facts, settings, optimizer, schedule)
        self.check_length(self.facts.context, backbone)
        self.prompt, self.sample_tokens, self.temperature = prompt, sample_tokens, temperature
        self.network = LanguageModel(backbone, self.facts.tokenizer.vocab_size, tie)

    def loss(self, batch: LanguageBatch) -> Loss:
        """Cross-entropy of each next token, in nats."""
        logits = self.network(batch.tokens, batch.layout)
        total = F.cross_entropy(
            logits.flatten(0, 1).float(),
            batch.labels.flatten(),
            ignore_index=IGNORE,
            reduction="sum",
        )
        return Loss(total, (batch.labels != IGNORE).sum())

    def validation_step(self, batch: LanguageBatch, index: int) -> None:
        self._add(self.loss(batch))

    def test_step(self, batch: LanguageBatch, index: int) -> None:
        self._add(self.loss(batch))

    def _add(self, loss: Loss) -> None:
        self.average.update(loss.total, loss.count)

    def predict_step(self, batch: LanguageBatch, index: int) -> list[dict[str, Any]]:
        """The text after the first half of each window, beside how it really went on."""
        tokenizer, half = self.facts.tokenizer, batch.tokens.shape[1] // 2
        prompts = [tokenizer.decode(row[:half].tolist()) for row in batch.tokens]
        truth = [tokenizer.decode(row[half:].tolist()) for row in batch.tokens]
        texts = self.generate(prompts, half, Greedy())
        return [
            {"prompt": p, "text": t, "reference": r}
            for p, t, r in zip(prompts, texts, truth, strict=True)
        ]

    def _finish(self, stage: str) -> None:
        loss = self.average.compute()  # pooled over devices, every token once
        self.average.reset()
        density = self.facts.density["validation" if stage == "val" else "test"]
        self.log(f"{stage}/loss", loss, prog_bar=True)
        self.log(f"{stage}/perplexity", loss.exp(), prog_bar=True)
        self.log(f"{stage}/bits_per_character", loss / math.log(2) / density["characters"])
        self.log(f"{stage}/word_perplexity", (loss / density["words"]).exp())

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, strategy: Greedy | Sampling
    ) -> list[str]:
        """What follows each prompt.

        Of a prompt longer than the model's positions only the end is read, as of any text once it has grown that
        long; it is counted in `self.truncated`.
        """
        tokenizer = self.facts.tokenizer
        room = self.network.config.max_length
        encoded = tokenizer.encode_batch(prompts)
        self.truncated += sum(len(ids) > room for ids in encoded)
        rows = [ids[-room:] or [tokenizer.eos] for ids in encoded]
        tokens, layout = self.padded(rows, tokenizer.pad)
        forbidden = (tokenizer.pad, tokenizer.bos, tokenizer.unk, tokenizer.cls)
        found = decode(
            self.network.steps(layout, tokens.shape[1] + max_new_tokens),
            tokens,
            strategy,
            Limits(tokenizer.eos, max_new_tokens, forbidden),
        )
        return [tokenizer.decode(best[0].tokens) for best in found]

    def samples(self) -> list[Row]:
        strategies: list[Greedy | Sampling] = [Greedy()]
        strategies += [Sampling(self.temperature, seed=seed) for seed in range(3)]
        return [
            [self.prompt, self.generate([self.prompt], self.sample_tokens, s)[0]]
            for s in strategies
        ]

    @torch.inference_mode()
    def pictures(self, batch: LanguageBatch) -> list[Picture]:
        """Which of the first tokens of the batch look at which: each head of the last block, and of several blocks."""
        tokens = batch.tokens[:1, :32]
        with capture(self.network) as weights:
            self.network(
                tokens, batch.layout.select(torch.tensor([0], device=self.device)).head(32)
            )
        pieces = [self.facts.tokenizer.token(i) for i in tokens[0].tolist()]
        seen = layers(weights)
        if not seen:
            return super().pictures(batch)
        return [
            AttentionPicture("attention", seen[-1].weights, pieces, pieces, "last layer"),
            LinesPicture("attention-lines", seen, pieces, pieces),
            *super().pictures(batch),
        ]
