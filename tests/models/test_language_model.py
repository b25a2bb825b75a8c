"""The language model: one sequence is one sequence, however it is batched, cached and continued."""

import pytest
import torch
from torch import Tensor

from tfzoo.backbone import TransformerConfig, units
from tfzoo.layout import Layout
from tfzoo.models import Beam, Greedy, Hypothesis, LanguageModel, Limits, Sampling, decode

V, END = 6, 0
KINDS = [
    *(pytest.param({"positions": p}, id=p) for p in ("sinusoidal", "learned", "rotary", "none")),
    *(pytest.param({"network": n}, id=n) for n in ("rnn", "lstm")),
]


def model(seed: int = 0, **changes) -> LanguageModel:
    torch.manual_seed(seed)
    base = {"dim": 32, "depth": 2, "heads": 4, "max_length": 24, "dropout": 0.0}
    made = LanguageModel(TransformerConfig(**(base | changes)), V, tie=False).eval()
    with torch.no_grad():  # away from the start, where the last token decides nearly alone
        for unit in units(made.decoder):
            for name, parameter in unit.named_parameters():
                parameter.mul_(1 if "norm" in name else 3)
        made.output.weight.mul_(2)
    return made


def prompts(*lengths: int) -> tuple[Tensor, Layout, list[Tensor]]:
    """A padded batch of prompts, and each alone."""
    torch.manual_seed(1)
    alone = [torch.randint(1, V, (length,)) for length in lengths]
    tokens = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True, padding_value=3)
    return tokens, Layout.padded(torch.tensor(lengths), tokens.shape[1]), alone


def window(tokens: list[int], prompt: int, longest: int) -> list[int]:
    """What is left to see of a text that grew token by token: the newer half, each time it ran over."""
    seen = tokens[:prompt]
    for token in tokens[prompt:]:
        seen = [*seen, token]
        if len(seen) > longest:
            seen = seen[-max(1, longest // 2) :]
    return seen


@torch.no_grad()
def naive_greedy(net: LanguageModel, prompt: Tensor, limits: Limits) -> Hypothesis:
    """Greedy decoding that recomputes everything for every token."""
    tokens, score = prompt.tolist(), 0.0
    for _ in range(limits.max_tokens):
        seen = torch.tensor([window(tokens, len(prompt), net.config.max_length)])
        logits = net(seen, Layout.full(*seen.shape))[0, -1]
        token = int(logits.argmax())
        score += logits.log_softmax(-1)[token].item()
        if token == limits.end:
            break
        tokens.append(token)
    return Hypothesis(tokens[len(prompt) :], score)


def same(got: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert [h.tokens for h in one] == [h.tokens for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("lengths", [(4, 4, 4, 4), (5, 1, 3, 4), (1,)], ids=str)
@pytest.mark.parametrize("end", [END, 5])
def test_greedy_with_a_cache_equals_naive_recomputation(kind, kv_heads, lengths, end):
    net = model(**kind, kv_heads=kv_heads)
    tokens, layout, alone = prompts(*lengths)
    limits = Limits(end, 8)
    got = decode(net.steps(layout), tokens, Greedy(), limits)
    same(got, [[naive_greedy(net, prompt, limits)] for prompt in alone])


def test_sequences_of_the_batch_above_end_at_different_times():
    """Otherwise it would not show that rows may leave."""
    for kind in KINDS:
        net = model(**kind.values[0])
        found = [naive_greedy(net, p, Limits(5, 8)).tokens for p in prompts(5, 1, 3, 4)[2]]
        assert len({len(tokens) for tokens in found}) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_beams_over_padded_prompts_equal_each_alone(kind, size):
    net = model(**kind)
    tokens, layout, alone = prompts(5, 1, 3, 4)
    limits = Limits(5, 8)
    got = decode(net.steps(layout), tokens, Beam(size), limits)
    for hypotheses, prompt in zip(got, alone, strict=True):
        steps = net.steps(Layout.full(1, len(prompt)))
        same([hypotheses], decode(steps, prompt[None], Beam(size), limits))


class Naive:
    """Steps that recompute everything."""

    def __init__(self, net: LanguageModel) -> None:
        self.net, self.tokens = net, None

    def __call__(self, tokens: Tensor) -> Tensor:
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens], dim=1)
        return self.net(self.tokens, Layout.full(*self.tokens.shape))[:, -1]

    def reorder(self, rows: Tensor, beams: int = 1) -> None:
        self.tokens = self.tokens[rows]


@pytest.mark.parametrize("kind", KINDS)
def test_beams_with_a_cache_equal_naive_recomputation(kind):
    net = model(**kind)
    tokens, layout, _ = prompts(4, 4, 4)
    got = decode(net.steps(layout), tokens, Beam(4), Limits(END, 10))
    same(got, decode(Naive(net), tokens, Beam(4), Limits(END, 10)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("longest", [1, 7, 8])
def test_text_goes_on_past_the_models_positions(kind, longest):
    net = model(**kind, max_length=longest)
    limits = Limits(None, 3 * longest + 4)
    for length in {1, max(1, longest // 2), longest}:
        tokens, layout, alone = prompts(length, length)
        got = decode(net.steps(layout), tokens, Greedy(), limits)
        assert [len(h.tokens) for [h] in got] == [limits.max_tokens] * 2
        same(got, [[naive_greedy(net, prompt, limits)] for prompt in alone])


@pytest.mark.parametrize("end", [None, END])
@pytest.mark.parametrize("lengths", [(8, 1, 5), (3, 7, 4), (1, 2, 8, 6)], ids=str)
def test_padded_prompts_forget_as_each_alone_would(lengths, end):
    """A short prompt beside a long one is not forgotten before its time."""
    net = model(positions="learned", max_length=8)
    tokens, layout, alone = prompts(*lengths)
    limits = Limits(end, 20)
    got = decode(net.steps(layout), tokens, Greedy(), limits)
    same(got, [[naive_greedy(net, prompt, limits)] for prompt in alone])


def test_tokens_may_come_in_one_tensor_again_and_again():
    """What was said before stays as it was said, also where it is read once more."""
    net, said = model(max_length=6), [3, 1, 4, 1, 5, 2, 5]
    one, each = net.steps(Layout.full(1, 1)), net.steps(Layout.full(1, 1))
    again = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        for token in said:
            found, expected = one(again.fill_(token)), each(torch.tensor([[token]]))
            assert torch.equal(found, expected)


@torch.no_grad()
def test_nothing_to_read_gives_nothing():
    assert model()(torch.zeros(0, 3, dtype=torch.long), Layout.full(0, 3)).shape == (0, 3, V)
    assert model()(torch.zeros(2, 0, dtype=torch.long), Layout.full(2, 0)).shape == (2, 0, V)


def test_a_decoding_of_known_length_takes_no_more_room():
    net = model(max_length=24)
    tokens, layout, alone = prompts(5, 3)
    limits = Limits(None, 6)
    steps = net.steps(layout, capacity=5 + 6)
    same(decode(steps, tokens, Greedy(), limits), [[naive_greedy(net, p, limits)] for p in alone])
    assert all(own.keys.shape[2] == 11 for own, _ in steps.cache.blocks)
    assert net.steps(layout, capacity=100).cache.blocks[0][0].capacity == 24
    with pytest.raises(ValueError, match="the cache has room for 6 tokens, not for 7"):
        decode(net.steps(layout, capacity=6), tokens, Greedy(), limits)


def test_sampled_text_goes_on_past_the_models_positions():
    net = model(max_length=8)
    tokens, layout, _ = prompts(8, 2)
    run = lambda: decode(net.steps(layout), tokens, Sampling(seed=5), Limits(None, 30))  # noqa: E731
    assert [len(h.tokens) for [h] in run()] == [30, 30]
    assert run() == run()


def test_a_prompt_that_is_too_long_is_named():
    with pytest.raises(
        ValueError, match="a prompt of 25 tokens does not fit the model's 24 positions"
    ):
        model().steps(Layout.full(1, 25))


@torch.no_grad()
def test_packed_windows_equal_documents_alone():
    net = model(positions="rotary")
    tokens = torch.randint(V, (1, 9))
    segments = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 3, 0]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 0]])
    logits = net(tokens, Layout(positions, segments))
    for place in (slice(0, 4), slice(4, 7), slice(7, 8)):
        one = tokens[:, place]
        torch.testing.assert_close(
            logits[:, place], net(one, Layout.full(*one.shape)), atol=2e-5, rtol=1e-4
        )


def test_tying_shares_storage_and_untying_does_not():
    config = TransformerConfig(dim=32, depth=2, heads=4)
    tied, untied = LanguageModel(config, V), LanguageModel(config, V, tie=False)
    assert tied.output.weight is tied.embedding.weight
    assert untied.output.weight.data_ptr() != untied.embedding.weight.data_ptr()
    count = [sum(p.numel() for p in m.parameters()) for m in (tied, untied)]
    assert count[1] - count[0] == V * 32


def test_logits_start_near_unit_variance():
    torch.manual_seed(0)
    net = LanguageModel(TransformerConfig(dim=32, depth=2, heads=4, dropout=0.0), 200)
    logits = net(torch.randint(200, (4, 32)), Layout.full(4, 32))
    assert 0.5 < logits.var().item() < 2.0
