"""A configuration checks itself with one sentence that names the bad value."""

import dataclasses
import re

import pytest

from tfzoo.backbone import TransformerConfig


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"dim": 0}, "dim must be at least 1, not 0"),
        ({"depth": 0}, "depth must be at least 1, not 0"),
        ({"heads": -1}, "heads must be at least 1, not -1"),
        ({"max_length": 0}, "max_length must be at least 1, not 0"),
        ({"hidden": -1}, "hidden must be at least 1, or 0 for no feed-forward layer, not -1"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), not 1.0"),
        ({"dropout": -0.1}, "dropout must be in [0, 1), not -0.1"),
        ({"attention_dropout": 1.5}, "attention_dropout must be in [0, 1), not 1.5"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0, not 0.0"),
        ({"rotary_base": -1.0}, "rotary_base must be above 0, not -1.0"),
        (
            {"dim": 12, "heads": 5},
            "heads must divide dim: 5 heads do not divide width 12; possible are 1, 2, 3, 4, 6, 12",
        ),
        (
            {"heads": 8, "kv_heads": 3},
            "kv_heads must divide heads: 3 does not divide 8; possible are 1, 2, 4, 8",
        ),
        (
            {"heads": 8, "kv_heads": 0},
            "kv_heads must divide heads: 0 does not divide 8; possible are 1, 2, 4, 8",
        ),
        ({"dim": 9, "heads": 3}, "sinusoidal positions need an even dim, not 9"),
        (
            {"dim": 12, "heads": 4, "positions": "rotary"},
            "rotary positions need an even width per head, not 12 / 4 = 3",
        ),
        ({"attention_scale": 0.0}, "attention_scale must be above 0, not 0.0"),
        ({"norm_placement": "Pre"}, "norm_placement must be one of pre, post, not Pre"),
        ({"norm": "batch"}, "norm must be one of layer, rms, none, not batch"),
        (
            {"activation": "tanh"},
            "activation must be one of relu, gelu, gelu_tanh, swiglu, none, not tanh",
        ),
        (
            {"positions": "rope"},
            "positions must be one of sinusoidal, learned, rotary, none, not rope",
        ),
        (
            {"network": "gru"},
            "network must be one of transformer, rnn, rnn-attention, lstm, lstm-attention, not gru",
        ),
        (
            {"network": "lstm", "dim": 9, "heads": 3},
            "lstm reads from both ends with half of dim each: it must be even, not 9",
        ),
        (
            {"network": "rnn-attention", "dim": 12, "heads": 5},
            "heads must divide dim: 5 heads do not divide width 12; possible are 1, 2, 3, 4, 6, 12",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_value_is_named(bad, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        TransformerConfig(**bad)


def test_odd_widths_are_only_refused_where_positions_need_pairs():
    assert TransformerConfig(dim=9, heads=3, positions="learned").head_dim == 3
    assert TransformerConfig(dim=9, heads=3, positions="none").head_dim == 3


def test_the_defaults_are_the_base_model_of_the_paper():
    config = TransformerConfig()
    assert (config.dim, config.depth, config.heads, config.feed_forward_dim) == (512, 6, 8, 2048)
    assert (config.head_dim, config.key_value_heads) == (64, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dim = 1  # type: ignore[misc]


@pytest.mark.parametrize("dim", [32, 96, 100, 512, 768])
def test_swiglu_is_as_large_as_two_matrices_of_four_times_the_width(dim):
    hidden = TransformerConfig(dim=dim, heads=4, activation="swiglu").feed_forward_dim
    assert hidden % 8 == 0
    assert 0 <= 3 * dim * hidden - 8 * dim**2 < 3 * dim * 8
    assert TransformerConfig(dim=dim, heads=4, activation="swiglu", hidden=7).feed_forward_dim == 7


def test_a_recurrent_network_has_only_the_heads_and_positions_that_it_uses():
    config = TransformerConfig(network="lstm", dim=10, heads=4, positions="rotary")
    assert (config.recurrence, config.attends, config.encoder) == ("lstm", False, config)
    config = TransformerConfig(network="rnn-attention", dim=10, heads=5, positions="rotary")
    assert (config.recurrence, config.attends) == ("rnn", True)
    assert config.encoder == dataclasses.replace(config, network="rnn")
    assert TransformerConfig().recurrence is None
