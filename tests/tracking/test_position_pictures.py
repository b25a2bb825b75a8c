"""Positions are as alike as their cosine, to each other and over their distance."""

import numpy as np
import pytest
from drawn import draws_without_complaint, words

from tfzoo.tracking.position_pictures import PositionPicture, similarity

CHANCE = np.random.default_rng(0).normal(size=(10, 8))


def images(picture):
    return [axes.images[0].get_array() for axes in picture.draw().axes if axes.images]


def test_similarity_is_the_cosine_and_of_nothing_none():
    encoding = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    half = 2**-0.5
    expected = [[1, 0, half, 0], [0, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(similarity(encoding), expected, atol=1e-12)


def test_learned_beside_sinusoidal():
    waves = np.stack([np.sin(np.arange(10)), np.cos(np.arange(10))], 1)
    picture = PositionPicture("positions", {"learned": CHANCE, "sinusoidal": waves}, total=640)
    assert {"learned", "sinusoidal"} <= set(words(picture))
    assert any("the first 10 of 640" in text for text in words(picture))
    ours, theirs = images(picture)
    np.testing.assert_allclose(ours, similarity(CHANCE))
    # Of sines and cosines the distance alone counts.
    np.testing.assert_allclose(theirs, np.cos(np.subtract.outer(np.arange(10), np.arange(10))))
    _, mean = picture.draw().axes[2].lines[-2:]
    np.testing.assert_allclose(mean.get_ydata(), np.cos(np.arange(10)))
    assert not picture.lasting
    draws_without_complaint(picture)


def test_each_patch_is_shown_in_its_place():
    encoding = np.random.default_rng(1).normal(size=(10, 4))  # a class token, 3 x 3 patches
    picture = PositionPicture("positions", {"learned": encoding}, grid=3)
    mosaic = images(picture)[1]
    alike = similarity(encoding)[1:, 1:]
    assert mosaic.shape == (11, 11)
    # The patch in row 1, column 2, seen from all nine.
    np.testing.assert_allclose(mosaic[4:7, 8:11], alike[5].reshape(3, 3))
    with pytest.raises(ValueError, match="10 positions"):
        PositionPicture("positions", {"learned": CHANCE[:9]}, grid=3)


def test_what_no_training_changes_is_drawn_once():
    assert PositionPicture("positions", {"sinusoidal": CHANCE}, changing=False).lasting
