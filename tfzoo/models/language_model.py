"""Language model: a decoder-only stack that predicts the next token (Radford et al. 2019).

Letters: B batch, T length, V vocabulary, R rows being decoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfzoo.backbone import Cache, TransformerConfig, stack_for
from tfzoo.layout import Layout
from tfzoo.models.embedding import TokenEmbedding


class LanguageModel(nn.Module):
    """Tokens to logits of the next one.

    Args:
        config: shape of the stack.
        vocabulary: number of tokens V.
        tie: whether the embedding is also the output layer.
    """

    def __init__(self, config: TransformerConfig, vocabulary: int, tie: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(vocabulary, config.dim)
        self.decoder = stack_for(config, causal=True)
        self.output = self.embedding if tie else TokenEmbedding(vocabulary, config.dim)

    def hidden(self, tokens: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        """What the output layer reads. tokens: (B, T), with a cache only the new ones; returns (B, T, D)."""
        return self.decoder(self.embedding(tokens), layout, cache=cache)

    def forward(self, tokens: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        """tokens: (B, T); returns logits (B, T, V)."""
        return self.output.logits(self.hidden(tokens, layout, cache))

    def steps(self, layout: Layout, capacity: int | None = None) -> LanguageModelSteps:
        """Decoding step by step after prompts of this layout, (B, T), padded on the right.

        capacity: the most tokens there will be, prompts included, to take no more room than for them; none: as many as
        the model has positions, and then on.
        """
        return LanguageModelSteps(self, layout, capacity)


class LanguageModelSteps:
    """One decoding under way. Text may grow past the model's positions: the older half is then forgotten."""

    def __init__(self, model: LanguageModel, prompt: Layout, capacity: int | None = None) -> None:
        longest = model.config.max_length
        if prompt.shape[1] > longest:
            raise ValueError(
                f"a prompt of {prompt.shape[1]} tokens does not fit the model's {longest} positions"
            )
        self.model, self.layout = model, prompt
        self.cache = model.decoder.cache(longest if capacity is None else min(capacity, longest))
        self.tokens: list[Tensor] = []  # what may be read again, in pieces that belong side by side

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: first the prompts (B, T), then one (R, 1) at a time; returns logits after the last, (R, V)."""
        self.tokens.append(tokens.clone())
        if len(self.tokens) == 1:  # the prompts
            x = self.model.hidden(tokens, self.layout, self.cache)
            # Prompts of several lengths end at different places.
            last = self.layout.segments.sum(dim=1) - 1
            return self.model.output.logits(x[torch.arange(len(x), device=x.device), last])
        new = self._next()
        self.layout = self.layout.extend(new)
        if self.layout.shape[1] > self.model.config.max_length:
            tokens, new = self._forget()
        x = self.model.hidden(tokens, new, self.cache)
        return self.model.output.logits(x[:, -1:])[:, 0]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        """Go on with row rows[i], (R,), as row i; beams: as of `Steps.reorder`."""
        self.cache.reorder(rows, beams)
        self.layout = self.layout.select(rows)
        if self.tokens:
            self.tokens = [torch.cat(self.tokens, dim=1)[rows]]

    def _next(self) -> Layout:
        """The layout of one more token in each row."""
        rows, length = self.layout.shape
        if self.layout.dense:
            return Layout.full(rows, 1, self.layout.device, start=self.layout.start + length)
        position = self.layout.segments.sum(dim=1, keepdim=True)
        return Layout(position, torch.ones_like(position))

    def _forget(self) -> tuple[Tensor, Layout]:
        """Start over without padding, and without the older half of rows that ran past the model's positions."""
        longest, length = self.model.config.max_length, self.layout.segments.sum(dim=1)
        length = length.where(length <= longest, max(1, longest // 2))
        width = int(length.max())
        # Real tokens to the right, in order; then the columns from each row's first on.
        order = self.layout.segments.argsort(dim=1, stable=True)[:, -width:]
        self.tokens = [torch.cat(self.tokens, dim=1).gather(1, order)]
        positions = torch.arange(width, device=length.device) - (width - length)[:, None]
        segments = (positions >= 0).long()
        self.layout = Layout(positions.clamp(min=0), segments, dense=self.layout.dense)
        self.cache = self.model.decoder.cache(longest)
        return self.tokens[0], self.layout
