"""Tokens and pixels become vectors as the papers say."""

import math

import pytest
import torch
import torch.nn.functional as F

from tfzoo.models import PatchEmbedding, TokenEmbedding


def test_tokens_are_looked_up_and_scaled_by_the_root_of_the_width():
    embedding = TokenEmbedding(10, 32)
    tokens = torch.tensor([[3, 1], [9, 3]])
    torch.testing.assert_close(embedding(tokens), embedding.weight[tokens] * math.sqrt(32))
    plain = TokenEmbedding(10, 32, scale=1.0)
    torch.testing.assert_close(plain(tokens), plain.weight[tokens])


def test_vectors_and_logits_start_with_unit_variance():
    torch.manual_seed(0)
    embedding = TokenEmbedding(500, 64)
    assert embedding(torch.arange(500)[None]).var().item() == pytest.approx(1.0, rel=0.1)
    assert embedding.logits(torch.randn(50, 64)).var().item() == pytest.approx(1.0, rel=0.1)


def test_logits_are_products_with_the_vectors():
    embedding = TokenEmbedding(10, 32)
    x = torch.randn(2, 3, 32)
    torch.testing.assert_close(embedding.logits(x), x @ embedding.weight.T)


@pytest.mark.parametrize(
    ("size", "patch", "channels"), [(8, 4, 1), (8, 2, 3), (6, 6, 3), (4, 1, 1)]
)
def test_an_image_becomes_a_class_token_and_its_patches_row_by_row(size, patch, channels):
    embedding = PatchEmbedding(size, patch, channels, 32)
    images = torch.randn(2, channels, size, size)
    out = embedding(images)
    side = size // patch
    assert out.shape == (2, 1 + side**2, 32)
    assert embedding.length == 1 + side**2
    assert out[0, 0].equal(embedding.class_token)
    assert out[1, 0].equal(embedding.class_token)
    weight = embedding.project.weight.flatten(1)
    for row in range(side):
        for column in range(side):
            cut = images[
                :, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch
            ]
            expected = F.linear(cut.flatten(1), weight, embedding.project.bias)
            torch.testing.assert_close(
                out[:, 1 + row * side + column], expected, atol=1e-5, rtol=1e-4
            )


def test_patch_vectors_start_with_the_variance_of_the_image():
    torch.manual_seed(0)
    out = PatchEmbedding(32, 8, 3, 64)(torch.randn(4, 3, 32, 32))
    assert out[:, 1:].var().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("patch", [5, 9, 0, -2])
def test_a_patch_that_does_not_divide_the_image_is_named(patch):
    with pytest.raises(
        ValueError,
        match=f"patch must divide the image: {patch} does not divide 8; possible are 1, 2, 4, 8",
    ):
        PatchEmbedding(8, patch, 1, 32)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 4), (1, 16, 16)])
def test_an_image_of_another_shape_is_named(shape):
    with pytest.raises(
        ValueError, match=f"images must be 1 x 8 x 8, not {' x '.join(map(str, shape))}"
    ):
        PatchEmbedding(8, 4, 1, 32)(torch.zeros(2, *shape))
