"""In half precision norms, softmax and losses are computed in float32, and only their results rounded."""

import pytest
import torch
from small_tasks import every_task

from tfzoo.backbone import TransformerConfig, explicit, fused, products
from tfzoo.backbone.attention import attention_weights
from tfzoo.backbone.block import norm_for
from tfzoo.layout import Mask

HALF = torch.bfloat16
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
        ],
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_norms_sum_in_float32(kind, device):
    chance = torch.Generator().manual_seed(0)
    # Sums of 4,096 such numbers would lose all their digits in bfloat16, which has eight bits of them.
    x = (torch.randn(8, 4096, generator=chance) + 4).to(device, HALF)
    norm = norm_for(TransformerConfig(dim=4096, heads=1, norm=kind)).to(device)
    expected = norm(x.float())
    torch.testing.assert_close(norm.to(HALF)(x).float(), expected, rtol=2**-7, atol=2**-7)


def as_products(query, key, value, mask, dropout):
    return products.attend(query, key, value, mask)


@pytest.mark.parametrize(
    ("kernel", "device"),
    [
        *((kernel, "cpu") for kernel in (fused, explicit, as_products)),
        *(pytest.param(kernel, "cuda", marks=DEVICES[1].marks) for kernel in (fused, explicit)),
    ],
)
def test_softmax_sums_in_float32(kernel, device):
    chance = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 2048, 16, generator=chance).to(device, HALF) for _ in range(2))
    value = torch.ones_like(key)  # so that what comes out is the sum of the weights
    heads = kernel(query, key, value, Mask(), 0.0)
    assert heads.dtype == HALF
    torch.testing.assert_close(heads.float(), torch.ones_like(heads.float()), rtol=0, atol=2**-7)
    assert attention_weights(query, key, Mask()).dtype == torch.float32


@pytest.mark.parametrize("mixed", [True, False], ids=["bf16-mixed", "bf16-true"])
def test_losses_are_in_float32(mixed):
    for (task, batch), (whole, _) in zip(every_task(), every_task(), strict=True):
        task = task if mixed else task.to(HALF)
        with torch.autocast("cpu", HALF, enabled=mixed):
            loss = task.train().loss(batch)
        assert loss.total.dtype == torch.float32
        expected = whole.train().loss(batch).mean
        torch.testing.assert_close(loss.mean, expected, rtol=0.05, atol=0.02)
