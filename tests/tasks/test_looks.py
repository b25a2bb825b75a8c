"""Pictures show the first, the middle and the last layer, and positions of every kind beside sinusoidal ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_tasks import BACKBONE, generation, translation

from tfzoo.tasks.looks import layers, positions


def test_first_middle_and_last_layer():
    for depth, chosen in ((1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 4, 6]), (12, [1, 7, 12])):
        weights = {f"blocks.{i}.self_attention": torch.full((1, 2, 3, 3), i) for i in range(depth)}
        found = layers(weights | {"blocks.0.cross_attention": torch.zeros(1, 2, 3, 3)}, "self")
        assert [layer.name for layer in found] == [f"layer {i}" for i in chosen]
        assert [layer.weights[0, 0, 0] for layer in found] == [i - 1 for i in chosen]


@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "rotary"])
def test_positions_of_every_kind(kind):
    task = generation(backbone=replace(BACKBONE, positions=kind))
    (picture,) = positions(task.network)
    assert list(picture.encodings) == list(dict.fromkeys([kind, "sinusoidal"]))
    assert picture.lasting == (kind != "learned")
    assert {len(encoding) for encoding in picture.encodings.values()} == {BACKBONE.max_length}


def test_learned_positions_of_two_stacks_are_two_pictures():
    task = translation(backbone=replace(BACKBONE, positions="learned"))
    found = list(positions(task.network))
    assert [picture.name for picture in found] == ["positions-encoder", "positions-decoder"]
    # What a picture holds is a copy, which no later step changes, and which leaves the weights to be sharded.
    before = found[0].encodings["learned"].copy()
    with torch.no_grad():
        task.network.encoder.positions.table.zero_()
    np.testing.assert_array_equal(found[0].encodings["learned"], before)


def test_without_positions_there_is_no_picture():
    assert not list(positions(generation(backbone=replace(BACKBONE, positions="none")).network))
