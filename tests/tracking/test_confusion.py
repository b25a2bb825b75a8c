"""A confusion matrix is shaded by its rows and shows its counts, with few classes and with many."""

import numpy as np
import pytest
from drawn import draws_without_complaint, words

from tfzoo.tracking.confusion import ConfusionPicture

COUNTS = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])


def test_rows_are_shares_and_cells_are_counts():
    picture = ConfusionPicture("confusion", COUNTS, ["书", "very long name of a class", "c"])
    axes = picture.draw().axes[0]
    np.testing.assert_allclose(
        axes.images[0].get_array(), [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]]
    )
    found = words(picture)
    assert any("11 of 14 right" in text for text in found)
    cells = {t.get_position(): t.get_text() for t in axes.texts if t.get_text().isdigit()}
    # Across the class that was read, down the true one.
    assert cells == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "3"}
    assert found.count("书") == 2


@pytest.mark.parametrize("classes", [2, 37, 100])
def test_from_few_classes_to_many_every_name_is_there(classes):
    names = [f"类 {i}" for i in range(classes)]
    picture = ConfusionPicture("confusion", np.eye(classes, dtype=int) * 1000, names)
    found = words(picture)
    assert all(found.count(name) == 2 for name in names)
    assert found.count("1000") == (classes if classes <= picture.written else 0)
    width, height = picture.draw().get_size_inches()
    assert max(width, height) < 13
    draws_without_complaint(picture)
    with pytest.raises(ValueError, match="counts must be"):
        ConfusionPicture("confusion", np.eye(classes), names[:-1])
