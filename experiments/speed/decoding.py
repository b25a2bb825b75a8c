"""Generation with a cache, and beam search, beside those of transformers; networks as they come, untrained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from contest import OURS, Contestant
from torch import Tensor, nn
from training import Shape, language, marian, translator

from tfzoo.layout import Layout
from tfzoo.models import Beam, Greedy, LanguageModel, Limits, Seq2Seq, decode


@dataclass
class Decoding:
    """What is generated: `count` tokens in all."""

    name: str
    count: int
    contestants: list[Contestant]
    unit: str = "tokens"


def generation(shape: Shape, batch: int, tokens: int, device: torch.device) -> Decoding:
    """So many tokens after prompts of 16, one at a time, the most probable."""
    work = language(shape, device)
    prompt = torch.randint(shape.vocabulary, (batch, min(16, shape.length // 2)), device=device)
    tokens = min(tokens, shape.length - prompt.shape[1])
    model = evaluated(work.makers[OURS], device)
    assert isinstance(model, LanguageModel)
    gpt2: Any = evaluated(work.makers["transformers GPT-2"], device)

    @torch.inference_mode()
    def ours() -> Any:
        layout = Layout.full(*prompt.shape, device)
        steps = model.steps(layout, prompt.shape[1] + tokens)
        return decode(steps, prompt, Greedy(), Limits(None, tokens))

    def theirs() -> Any:
        return gpt2.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            use_cache=True,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=0,
        )

    assert len(ours()[0][0].tokens) == tokens == theirs().shape[1] - prompt.shape[1]
    check_without_cache(model, prompt, ours()[0][0].tokens)
    contestants = [
        Contestant(OURS, ours, model.parameters),
        Contestant("transformers GPT-2", theirs, gpt2.parameters),
    ]
    return Decoding(f"generation, batch {batch}", batch * tokens, contestants)


@torch.inference_mode()
def check_without_cache(model: LanguageModel, prompt: Tensor, found: list[int]) -> None:
    """Raises AssertionError where the first row would go on otherwise if all were computed anew for every token."""
    row = prompt[:1]
    for token in found:
        logits = model(row, Layout.full(1, row.shape[1], row.device))[0, -1]
        assert int(logits.argmax()) == token, "the cache changes what is generated"
        row = torch.cat([row, row.new_tensor([[token]])], dim=1)


def translation(shape: Shape, batch: int, beams: int, device: torch.device) -> Decoding:
    """Sources of the shape's length, into as many tokens."""
    source = torch.randint(1, shape.vocabulary, (batch, shape.length), device=device)
    tokens = shape.length
    work = translator(replace(shape, length=4 * shape.length, batch=1), device)
    model = evaluated(work.makers[OURS], device)
    assert isinstance(model, Seq2Seq)
    theirs: Any = evaluated(lambda: (marian(shape), lambda: source), device)
    strategy = Beam(beams) if beams > 1 else Greedy()

    @torch.inference_mode()
    def ours() -> Any:
        layout = Layout.full(*source.shape, device)
        steps = model.steps(source, layout, tokens + 1)
        begin = source.new_zeros(batch, 1)
        return decode(steps, begin, strategy, Limits(None, tokens, forbidden=(0,)))

    def marians() -> Any:
        return theirs.generate(
            source,
            attention_mask=torch.ones_like(source),
            do_sample=False,
            use_cache=True,
            num_beams=beams,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )

    assert len(ours()[0][0].tokens) == tokens == marians().shape[1] - 1
    contestants = [
        Contestant(OURS, ours, model.parameters),
        Contestant("transformers Marian", marians, theirs.parameters),
    ]
    how = f"beam of {beams}" if beams > 1 else "greedy"
    return Decoding(f"translation, {how}, batch {batch}", batch * tokens, contestants)


def evaluated(make: Callable[[], tuple[nn.Module, Any]], device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return make()[0].to(device).eval()
