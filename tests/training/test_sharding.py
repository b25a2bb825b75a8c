"""A network shared out over two processes learns what a whole one does from both their batches."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import SGD, Optimizer

from tfzoo.backbone import TransformerConfig
from tfzoo.layout import Layout
from tfzoo.models import LanguageModel
from tfzoo.training.sharding import gather, release, shard

ROWS = torch.randint(20, (4, 9), generator=torch.Generator().manual_seed(1))


def network() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(TransformerConfig(dim=32, depth=2, heads=2, dropout=0.0), vocabulary=20)


def learn(model: LanguageModel, rows: Tensor, optimizer: Optimizer) -> None:
    tokens, labels = rows[:, :-1], rows[:, 1:]
    logits = model(tokens, Layout.full(*tokens.shape))
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture
def alone(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["transformer", "lstm-attention"])
def test_a_sharded_network_of_every_task_trains(alone, kind):
    from small_tasks import every_task, text_batch, text_classification  # not in a process of ours

    texts = text_classification(token_dropout=0.5, masked_lm=0.3, consistency=1.0)
    for task, batch in [*every_task(kind), (texts, text_batch(texts))]:
        torch.manual_seed(0)
        whole = task.train().loss(batch).total
        shard(task.network, alone)
        torch.manual_seed(0)
        loss = task.loss(batch).total
        torch.testing.assert_close(loss, whole)
        loss.backward()
        assert all(p.grad is not None for p in task.network.parameters() if p.requires_grad)


@torch.no_grad()
def decode(model: LanguageModel, rows: Tensor, count: int) -> None:
    gather(model)
    steps = model.steps(Layout.full(len(rows), 1))
    for place in range(count):
        steps(rows[:, place : place + 1])
    release(model)


def process(rank: int, meeting: str, result: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model, rows = network(), ROWS.chunk(2)[rank]
    for _ in range(2):
        shard(model, init_device_mesh("cpu", (2,)))
    optimizer = SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        learn(model, rows, optimizer)
        decode(model, rows, count=3 * rank)
        weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save(weights, result)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_that_share_a_network_learn_what_one_does(tmp_path: Path) -> None:
    import forked  # not in a process of ours

    meeting, result = str(tmp_path / "meeting"), str(tmp_path / "weights.pt")
    ranks = [
        forked.Popen([sys.executable, __file__, str(rank), meeting, result]) for rank in (0, 1)
    ]
    try:
        # They also decode, for unequal numbers of steps: neither may wait for the other then.
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        learn(model, ROWS, optimizer)
    shared = torch.load(result, weights_only=True)
    assert shared.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(shared[name], weight)


if __name__ == "__main__":
    process(int(sys.argv[1]), *sys.argv[2:])
