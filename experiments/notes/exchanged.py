"""A translator whose cross-attention has its roles exchanged: the encoder asks, and the decoder is asked."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tfzoo.backbone import Attention, Transformer, TransformerConfig
from tfzoo.layout import Layout, Mask
from tfzoo.models import Seq2Seq
from tfzoo.tasks import Translation


class Asked(Attention):
    """Queries from the memory, keys and values from the decoder: one answer for each token of the memory.

    The first answer goes to the first token of the decoder, and so on; what is too long is cut, what is too short is
    filled with nothing.

    future: whether an answer may come from tokens of the decoder behind that to which it goes.
    """

    def __init__(self, config: TransformerConfig, future: bool) -> None:
        super().__init__(config)
        self.future = future

    def forward(self, x: Tensor, mask: Mask, _: Any, memory: Tensor, cache: None = None) -> Tensor:
        """x: (B, T, D), memory: (B, S, D); returns (B, T, D)."""
        assert cache is None, "what is asked changes with every token: nothing of it can be kept"
        length = x.shape[1]
        query = self._split(self._part(memory, slice(None, self.widths[0])))
        key, value = self._key_value(x)
        visible = None if mask.visible is None else mask.visible.transpose(-1, -2)
        if not self.future:
            past = torch.ones(memory.shape[1], length, dtype=torch.bool, device=x.device).tril()
            visible = past if visible is None else visible & past
        heads = self.kernel(query, key, value, Mask(visible=visible), 0.0)
        out = self.output(heads.transpose(1, 2).flatten(2))[:, :length].nan_to_num()
        return F.pad(out, (0, 0, 0, length - out.shape[1]))


class ExchangedSeq2Seq(Seq2Seq):
    def __init__(self, config: TransformerConfig, *vocabularies: Any, future: bool) -> None:
        super().__init__(config, *vocabularies)
        assert isinstance(self.decoder, Transformer)
        for block in self.decoder.blocks:
            block.cross_attention.sublayer = Asked(config, future)

    def steps(self, source: Tensor, layout: Layout, capacity: int) -> Anew:  # type: ignore[override]
        return Anew(self, source, layout)


class Anew:
    """A decoding that reads all it has written anew for every token."""

    def __init__(self, model: Seq2Seq, source: Tensor, layout: Layout) -> None:
        self.model, self.layout = model, layout
        self.memory = model.encode(source, layout)
        self.tokens: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: (R, T) that come next; returns logits after the last of them, (R, V)."""
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens], dim=1)
        rows, length = self.tokens.shape
        target = Layout.full(rows, length, tokens.device)
        return self.model.decode(self.tokens, target, self.memory, self.layout)[:, -1]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        """Go on with row rows[i], (R,), as row i."""
        assert self.tokens is not None
        self.tokens, self.memory = self.tokens[rows], self.memory[rows]
        self.layout = self.layout.select(rows)


class Exchanged(Translation):
    """`Translation` with exchanged roles.

    Args:
        future: as of `Asked`.
        settings: as of `Translation`.
    """

    def __init__(self, future: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.settings["future"] = future
        vocabularies = self.facts.source.vocab_size, self.facts.target.vocab_size
        self.network = ExchangedSeq2Seq(
            settings["backbone"], *vocabularies, self.settings["tie"], future=future
        )
