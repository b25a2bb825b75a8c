"""Recurrent networks in the Transformer's place: the same calls, the same caches, one setting apart.

Letters: B batch, T length, S memory length, D width, N sequences, L the longest, P parts of a state (one of an RNN,
hidden; two of an LSTM, hidden and cell).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tfzoo.backbone.attention import Attention
from tfzoo.backbone.block import Residual
from tfzoo.backbone.cache import Cache, StateCache
from tfzoo.backbone.config import TransformerConfig
from tfzoo.backbone.linear import Linear
from tfzoo.backbone.sequences import Sequences
from tfzoo.backbone.transformer import initialise
from tfzoo.layout import Layout, lower


class RecurrentLayer(nn.Module):
    """One layer: an RNN (Elman 1990) or LSTM (Hochreiter and Schmidhuber 1997) over sequences.

    Args:
        config: says which.
        both: from both ends, each with half the width (Schuster and Paliwal 1997); else from the beginning.
    """

    def __init__(self, config: TransformerConfig, both: bool) -> None:
        super().__init__()
        kind = nn.LSTM if config.recurrence == "lstm" else nn.RNN
        width = config.dim // 2 if both else config.dim
        self.ahead = kind(config.dim, width, bias=config.bias, batch_first=True)
        self.back = kind(config.dim, width, bias=config.bias, batch_first=True) if both else None
        # Between layers and never from step to step, where it would drown what is remembered (Zaremba et al. 2014).
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, sequences: Sequences, state: Tensor | None, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """x: (N, L, D); state: (P, N, D) to begin with, none: zeros; of one direction alone.

        Returns (N, L, D) and, to `keep`, the state after each sequence's last token, (P, N, D).
        """
        if self.back is not None:
            behind = sequences.turn(self._run(self.back, sequences.turn(x), None)[0])
            return self.dropout(
                torch.cat([self._run(self.ahead, x, None)[0], behind], dim=-1)
            ), None
        if not keep:
            return self.dropout(self._run(self.ahead, x, state)[0]), None
        if sequences.dense:
            x, state = self._run(self.ahead, x, state)
            return self.dropout(x), state
        lengths = sequences.lengths
        before = x.new_zeros(self.parts, len(x), x.shape[-1]) if state is None else state
        if x.shape[1] > 1:  # the last state of each is not that of the last column
            ends = lengths.clamp(min=1).cpu()
            x, after = self._run(self.ahead, x, before, ends)
        else:
            x, after = self._run(self.ahead, x, before)
        return self.dropout(x), torch.where(lengths[:, None] > 0, after, before)

    @property
    def parts(self) -> int:
        return 2 if isinstance(self.ahead, nn.LSTM) else 1

    @staticmethod
    def _run(
        network: nn.RNNBase, x: Tensor, state: Tensor | None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x: (N, L, D), state: (P, N, D); returns both anew, the state after the last column.

        lengths: (N,) on the CPU; where they are given, the state after so many.
        """
        # A recurrence computes in its weights' own precision: a CPU has no LSTM whose parts autocast has cast
        # differently, and a GPU's is cast to float16 whatever was asked for.
        if torch.is_autocast_enabled(x.device.type):
            dtype = next(network.parameters()).dtype
            with torch.autocast(x.device.type, enabled=False):
                state = None if state is None else state.to(dtype)
                return RecurrentLayer._run(network, x.to(dtype), state, lengths)
        given: object = state
        if state is not None:  # in parts that lie together, as cuDNN wants them
            parts = [part.contiguous() for part in state.split(1)]
            given = tuple(parts) if isinstance(network, nn.LSTM) else parts[0]
        if lengths is None:
            x, last = network(x, given)
        else:
            longest = x.shape[1]
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            packed, last = network(packed, given)
            x, _ = pad_packed_sequence(packed, batch_first=True, total_length=longest)
        return x, torch.cat(last) if isinstance(network, nn.LSTM) else last


class Recurrent(nn.Module):
    """A stack of recurrent layers over embeddings, called as `Transformer` is.

    State goes from token to token of one sequence alone: neither over into its neighbour in a row nor through padding.

    An encoder reads from both ends. A decoder knows of its source one vector, what the encoder remembers at either end,
    from which all layers begin (Sutskever et al. 2014; Cho et al. 2014); with attention it also looks at the whole
    memory above its last layer (Bahdanau et al. 2015; Luong et al. 2015, global attention), by the Transformer's own
    module.

    Args:
        config: the shape of the stack; `network` says which.
        causal: from the beginning only, so that each position knows only itself and earlier ones.
        cross: the stack also reads a memory, the encoder's output; it is then causal.
    """

    def __init__(
        self, config: TransformerConfig, *, causal: bool = False, cross: bool = False
    ) -> None:
        super().__init__()
        assert causal or not cross, "what a memory begins goes from the beginning to the end"
        if config.attends and not cross:
            raise ValueError(
                f"{config.network} is a decoder's look at its source, and this task has none: "
                f"set backbone.network to {config.recurrence}"
            )
        self.config, self.causal = config, causal
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(config, both=not causal) for _ in range(config.depth)
        )
        parts = 2 if config.recurrence == "lstm" else 1
        self.begin = Linear(config.dim, config.depth * parts * config.dim) if cross else None
        self.cross_attention = Residual(config, Attention(config)) if config.attends else None
        initialise(self, sublayers=1)
        initialise_recurrences(self)

    def cache(self, capacity: int) -> Cache[StateCache]:
        """An empty cache. A state takes the same room after any number of tokens."""
        return Cache(StateCache() for _ in self.layers)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache[StateCache] | None = None,
    ) -> Tensor:
        """x: (B, T, D) embeddings; memory: (B, S, D) for a stack with `cross`; returns (B, T, D).

        With a cache, each row of x holds only the tokens of one sequence that are new since the last call, and there
        may be fewer memories than rows (see `Cache.reorder`); the vector that a decoder begins from is taken from the
        memory in the first call.
        """
        sequences = Sequences(layout, whole_rows=cache is not None)
        states: list[Tensor | None] = [None] * len(self.layers)
        if cache is not None:
            states = [kept.state for kept, _ in cache.blocks]
        if self.begin is not None and states[0] is None:
            assert memory is not None
            assert memory_layout is not None
            states = self._states(summary(sequences, memory, memory_layout))
        x = sequences.separate(self.dropout(x))
        for index, layer in enumerate(self.layers):
            x, state = layer(x, sequences, states[index], cache is not None)
            if cache is not None:
                cache.blocks[index][0].state = state
        x = sequences.join(x)
        if self.cross_attention is None:
            return x
        assert memory_layout is not None
        mask = lower(layout.folded(memory_layout.shape[0]), memory_layout, causal=False)
        looked = None if cache is None else cache.blocks[-1][1]
        return self.cross_attention(x, mask, None, memory, looked)

    def _states(self, source: Tensor) -> list[Tensor | None]:
        """source: (N, D); returns for each layer the state that it begins from, (P, N, D)."""
        assert self.begin is not None
        states = self.begin(source).tanh().unflatten(-1, (len(self.layers), -1, source.shape[-1]))
        return list(states.permute(1, 2, 0, 3))


def summary(sequences: Sequences, memory: Tensor, layout: Layout) -> Tensor:
    """What an encoder remembers of the source of each sequence: its last state forward and its first one backward.

    memory: (B, S, D), half of the width of each direction; layout: of the memory. A sequence's source is the segment of
    the same number in the same row. Returns (N, D), zero where there is none.
    """
    row, segment = sequences.owners()
    theirs = layout.segments[row] == segment[:, None]
    place = torch.arange(1, theirs.shape[1] + 1, device=theirs.device)
    last, first = (theirs * place).argmax(1), (theirs * place.flip(0)).argmax(1)
    half = memory.shape[-1] // 2
    found = torch.cat([memory[row, last, :half], memory[row, first, half:]], dim=-1)
    return found.masked_fill(~theirs.any(1, keepdim=True), 0.0)


@torch.no_grad()
def initialise_recurrences(module: nn.Module) -> None:
    """Input weights normal, of variance 1 / fan-in; recurrent ones orthogonal, gate by gate; biases zero.

    An orthogonal matrix neither shrinks nor blows up what passes through it again and again (Saxe et al. 2014). The
    forget gates of an LSTM begin open, with a bias of one (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    for network in module.modules():
        if not isinstance(network, nn.RNNBase):
            continue
        for name, weight in network.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            elif name.startswith("weight_hh"):
                for gate in weight.split(network.hidden_size):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(weight)
                if isinstance(network, nn.LSTM) and name.startswith("bias_ih"):
                    weight[network.hidden_size : 2 * network.hidden_size].fill_(1.0)
