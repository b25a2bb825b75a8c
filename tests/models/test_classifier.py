"""Classifiers: a text's logits are its own, however it is padded or packed; an image is a text of patches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tfzoo.backbone import TransformerConfig
from tfzoo.layout import Layout
from tfzoo.models import ImageClassifier, TextClassifier
from tfzoo.models.classifier import pool

TINY = TransformerConfig(dim=32, depth=2, heads=4, max_length=32, dropout=0.0)
PACKED = Layout(
    torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]]),
    torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1]]),
)
FIRST = torch.tensor([0, 3, 6, 8, 9, 12])
PLACES = [(0, slice(0, 3)), (0, slice(3, 5)), (1, slice(0, 2)), (1, slice(2, 3)), (1, slice(3, 4)), (2, slice(0, 6))]  # fmt: skip


def awake(model: nn.Module) -> nn.Module:
    """Away from its all-zero output layer."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooling_of_packed_rows(pooling):
    x = torch.randn(3, 6, 32)
    pooled = pool(x, PACKED, FIRST, pooling)
    for vector, (row, place) in zip(pooled, PLACES, strict=True):
        expected = x[row, place][0] if pooling == "cls" else x[row, place].mean(0)
        torch.testing.assert_close(vector, expected)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_the_mean_is_exact_in_half_precision(device):
    """A sum that is kept in bfloat16 would stop counting at 256."""
    x = torch.cat([torch.ones(1, 400, 4), torch.full((1, 400, 4), 3.0)], dim=1).bfloat16()
    layout, first = Layout.full(1, 800, device), torch.tensor([0], device=device)
    pooled = pool(x.to(device), layout, first, "mean")
    assert pooled.dtype == torch.bfloat16
    assert pooled.tolist() == [[2.0] * 4]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    "kind",
    [
        *({"positions": p} for p in ("sinusoidal", "learned", "rotary")),
        *({"network": n} for n in ("rnn", "lstm")),
    ],
    ids=str,
)
@torch.no_grad()
def test_packed_and_padded_equal_alone(pooling, kind):
    config = replace(TINY, **kind)
    model = awake(TextClassifier(config, vocabulary=11, classes=3, pooling=pooling))
    tokens = torch.randint(11, (3, 6))
    texts = [tokens[row, place] for row, place in PLACES]
    alone = [model(t[None], Layout.full(1, len(t)), torch.tensor([0])) for t in texts]
    expected = torch.cat(alone)
    assert expected.std(0).min() > 1e-3

    packed = model(tokens, PACKED, FIRST)
    torch.testing.assert_close(packed, expected, atol=2e-5, rtol=1e-4)

    lengths = torch.tensor([len(t) for t in texts])
    rows = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=7)
    first = torch.arange(len(texts)) * rows.shape[1]
    padded = model(rows, Layout.padded(lengths, rows.shape[1]), first)
    torch.testing.assert_close(padded, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_only_its_own_tokens_move_a_texts_logits(pooling):
    model = awake(TextClassifier(TINY, vocabulary=11, classes=3, pooling=pooling))
    seen: list[Tensor] = []
    model.embedding.register_forward_hook(
        lambda *call: seen.append(call[2]) or call[2].retain_grad()
    )
    logits = model(torch.randint(11, (3, 6)), PACKED, FIRST)
    logits[1].sum().backward()
    moved = seen[0].grad.abs().sum(-1) > 0
    assert moved.nonzero().tolist() == [[0, 3], [0, 4]]


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@torch.no_grad()
def test_an_image_is_classified_through_all_of_its_patches(pooling):
    model = awake(ImageClassifier(TINY, size=8, patch=4, channels=1, classes=3, pooling=pooling))
    logits = model(images())
    assert logits.shape == (2, 3)
    for row in range(0, 8, 4):
        for column in range(0, 8, 4):
            changed = images()
            changed[0, :, row : row + 4, column : column + 4] += 1.0
            out = model(changed)
            assert not torch.allclose(out[0], logits[0], atol=1e-4)
            torch.testing.assert_close(out[1], logits[1])


@torch.no_grad()
def test_an_image_is_a_text_of_patches():
    """The same encoder and pooling, written out."""
    model = awake(ImageClassifier(TINY, size=8, patch=4, channels=1, classes=3, pooling="mean"))
    hidden = model.encoder(model.embedding(images()), Layout.full(2, 5))
    torch.testing.assert_close(model(images()), model.output(hidden.mean(1)))


def test_an_image_of_too_many_patches_is_named():
    with pytest.raises(
        ValueError, match="8 x 8 in patches of 1 has 65 tokens, more than the model's 32"
    ):
        ImageClassifier(TINY, size=8, patch=1, channels=1, classes=3)
    config = TransformerConfig(dim=32, depth=2, heads=4, max_length=17, dropout=0.0)
    ImageClassifier(config, size=8, patch=2, channels=1, classes=3)


@torch.no_grad()
def test_classifiers_start_at_even_odds():
    text = TextClassifier(TINY, vocabulary=11, classes=3)
    assert not text(torch.randint(11, (3, 6)), PACKED, FIRST).any()
    assert not ImageClassifier(TINY, size=8, patch=4, channels=1, classes=3)(images()).any()


def test_one_step_away_from_even_odds_everything_learns():
    """A zero output layer passes no gradient down at first, but does so after one step."""
    model = TextClassifier(TINY, vocabulary=11, classes=3)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(
            model(torch.arange(18).view(3, 6) % 11, PACKED, FIRST), torch.tensor([0, 1, 2, 0, 1, 2])
        )
        loss.backward()
        optimiser.step()
    assert all(p.grad.any() for name, p in model.named_parameters() if "project.bias" not in name)


def test_a_word_never_met_hardly_changes_the_mean():
    """Rows of the embedding that training has not touched yet must not drown those that it has."""
    model = TextClassifier(TransformerConfig(dim=32, depth=2, heads=4, positions="learned"), 100, 2)
    assert model.embedding(torch.arange(100)[None]).std() < 0.2
    assert model.encoder.positions.table.std() < 0.2
