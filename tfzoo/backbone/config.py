"""What a Transformer, or a recurrent network in its place, is made of: one frozen value that checks itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args, get_origin, get_type_hints

Activation = Literal["relu", "gelu", "gelu_tanh", "swiglu", "none"]
Network = Literal["transformer", "rnn", "rnn-attention", "lstm", "lstm-attention"]


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a stack of Transformer blocks. The defaults are the paper's base model, pre-norm.

    With another `network` the same settings make a recurrent one: it uses dim (which must be even), depth (layers),
    dropout (on embeddings and on the output of every layer), max_length and bias; with attention also heads, kv_heads,
    attention_dropout, attention_scale, residual and the norm, for its look at the source. The others mean nothing to
    it: its order is that of its steps, and it has no positions and no feed-forward layer.

    Args:
        dim: width D of the residual stream.
        depth: number of blocks; of each stack, where there is an encoder and a decoder.
        heads: query heads; divides dim.
        kv_heads: key and value heads, shared by groups of query heads (Ainslie et al. 2023); none: as many as heads.
        hidden: width of the feed-forward layer; none: 4 x dim, or 8/3 x dim for swiglu, which has a third matrix; 0: no
            feed-forward layer.
        dropout: probability on embeddings and on the output of every sublayer.
        attention_dropout: probability on attention weights; above zero it rules out the fastest CPU kernel.
        norm_placement: "pre" normalises a sublayer's input, "post" (Vaswani et al. 2017) the sum after it.
        norm: "layer" (Ba et al. 2016), "rms" (Zhang and Sennrich 2019) or "none".
        norm_eps: added to the variance.
        residual: whether each sublayer's input is added to its output (He et al. 2016).
        activation: of the feed-forward layer; "none" leaves it linear.
        positions: "sinusoidal", "learned", "rotary" (Su et al. 2021) or "none".
        rotary_base: wavelength base of rotary positions.
        max_length: positions available.
        bias: whether linear layers and norms have one.
        attention_scale: what products of queries and keys are multiplied by; none: 1 / sqrt(width per head).
        causal: whether tokens see only earlier ones; none: as the task needs it, decoders do and encoders do not.
        network: "transformer", or "rnn" or "lstm" (see `Recurrent`), whose decoders know one vector of their source;
            "rnn-attention" and "lstm-attention" also look at all of it, and are for tasks with a source.

    `residual`, "none" and `causal` take something out that a Transformer needs, to see what becomes of it.
    """

    dim: int = 512
    depth: int = 6
    heads: int = 8
    kv_heads: int | None = None
    hidden: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    norm_placement: Literal["pre", "post"] = "pre"
    norm: Literal["layer", "rms", "none"] = "layer"
    norm_eps: float = 1e-5
    residual: bool = True
    activation: Activation = "gelu"
    positions: Literal["sinusoidal", "learned", "rotary", "none"] = "sinusoidal"
    rotary_base: float = 10000.0
    max_length: int = 512
    bias: bool = True
    attention_scale: float | None = None
    causal: bool | None = None
    network: Network = "transformer"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(
                    f"{name} must be one of {', '.join(get_args(hint))}, not {getattr(self, name)}"
                )
        for name in ("dim", "depth", "heads", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        for name in ("norm_eps", "rotary_base"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.recurrence is not None and self.dim % 2:
            raise ValueError(
                f"{self.network} reads from both ends with half of dim each: it must be even, not {self.dim}"
            )
        if self.recurrence is not None and self.causal is not None:
            raise ValueError(
                f"causal is a Transformer's: {self.network} reads from both ends, or decodes from the beginning"
            )
        if self.hidden is not None and self.hidden < 0:
            raise ValueError(
                f"hidden must be at least 1, or 0 for no feed-forward layer, not {self.hidden}"
            )
        if self.attention_scale is not None and not self.attention_scale > 0:
            raise ValueError(f"attention_scale must be above 0, not {self.attention_scale}")
        if self.recurrence is None or self.attends:
            self._check_heads()
        if self.recurrence is None:
            self._check_positions()

    def _check_heads(self) -> None:
        if self.dim % self.heads:
            raise ValueError(
                f"heads must divide dim: {self.heads} heads do not divide width {self.dim}; "
                f"possible are {_divisors(self.dim)}"
            )
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise ValueError(
                f"kv_heads must divide heads: {self.kv_heads} does not divide {self.heads}; "
                f"possible are {_divisors(self.heads)}"
            )

    def _check_positions(self) -> None:
        if self.positions == "sinusoidal" and self.dim % 2:
            raise ValueError(f"sinusoidal positions need an even dim, not {self.dim}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"rotary positions need an even width per head, not {self.dim} / {self.heads} = {self.head_dim}"
            )

    @property
    def recurrence(self) -> Literal["rnn", "lstm"] | None:
        """What kind of recurrent network it is; None: a Transformer."""
        if self.network == "transformer":
            return None
        return "lstm" if self.network.startswith("lstm") else "rnn"

    @property
    def attends(self) -> bool:
        """Whether it is a recurrent network with attention."""
        return self.network.endswith("-attention")

    @property
    def encoder(self) -> TransformerConfig:
        """The shape of the encoder beside a decoder of this one: alike, but that it has no source to attend to."""
        return self if self.recurrence is None else replace(self, network=self.recurrence)

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def key_value_heads(self) -> int:
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def feed_forward_dim(self) -> int:
        """`hidden`, or its default; swiglu's is rounded up to a multiple of 8, which matrix units like."""
        if self.hidden is not None:
            return self.hidden
        return -(-8 * self.dim // 24) * 8 if self.activation == "swiglu" else 4 * self.dim


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, min(number, 64) + 1) if number % n == 0)
