"""Pictures show every head and every word, or say what they leave out."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import attention, draws_without_complaint, words
from PIL import Image

from tfzoo.tracking import lettering
from tfzoo.tracking.attention_pictures import AttentionPicture, Layer, LinesPicture
from tfzoo.tracking.drawn import rewind
from tfzoo.tracking.figures import save, titled
from tfzoo.tracking.image_pictures import ImageGrid, PatchPicture
from tfzoo.tracking.runs import Run


@pytest.fixture
def without_chinese(monkeypatch):
    monkeypatch.setattr(lettering, "FONTS", ())
    lettering.fonts.cache_clear()
    yield
    lettering.fonts.cache_clear()


def test_pictures_after_the_step_that_is_gone_back_to_are_forgotten(tmp_path):
    run = Run(tmp_path)
    kept = ["attention-step000010.png", "samples-step000002.md", "positions.png"]
    for name in [*kept, "attention-step000011.png", "samples-step000020.md"]:
        run.figures.mkdir(exist_ok=True)
        (run.figures / name).touch()
    rewind(run, 10)
    assert {file.name for file in run.figures.iterdir()} == set(kept)


def test_every_head_their_mean_and_every_word():
    picture = AttentionPicture(
        "alignment", attention(4, 3, 2), ["关闭", "标签", "页"], ["Close", "tabs"]
    )
    found = words(picture)
    assert {"Alignment of a translation with its source", "mean", "head 1", "head 4"} <= set(found)
    assert found.count("Close") == 5
    assert "标签" in found


def test_one_head_needs_no_mean():
    assert "mean" not in words(AttentionPicture("a", attention(1, 2, 2), "xy", "xy"))


@pytest.mark.parametrize("text", ["$x_1$", "␣ \n\t", "a\x00b", "한국어", "𠮷", "😀", "", "é", "l̂"])
def test_any_word_can_be_drawn(text):
    draws_without_complaint(AttentionPicture(text, attention(1, 2, 2), [text, "b"], [text, "b"]))
    draws_without_complaint(ImageGrid(text, [np.zeros((2, 2))], [text]))


@pytest.mark.usefixtures("without_chinese")
def test_without_a_font_numbers_stand_for_words():
    picture = AttentionPicture("注意", attention(1, 2, 2), ["Close", "标签"], ["a", "b"])
    found = words(picture)
    assert {"Close", "#2"} <= set(found)
    assert "标签" not in found
    assert any('pip install "tfzoo[demo]"' in text for text in found)
    draws_without_complaint(picture)


def test_what_is_left_out_is_said():
    many = [str(i) for i in range(60)]
    found = words(AttentionPicture("a", attention(1, 60, 2), many, ["x", "y"]))
    assert any("the first 48 of 60 rows" in text for text in found)
    assert "47" in found
    assert "48" not in found


def test_patches_and_grids():
    layers = [Layer(name, attention(3, 7, 7)) for name in ("layer 1", "layer 6")]
    image = np.random.default_rng(0).random((28, 20, 3))
    found = words(PatchPicture("class token", layers, image, "猫, read as dog"))
    assert {"image", "layer 1: mean", "layer 6: mean", "head 3", "猫, read as dog"} <= set(found)
    assert found.count("head 3") == 2
    found = words(ImageGrid("misread", [image, image[..., 0]], ["3, read as 8", "7, read as 1"]))
    assert {"Misread", "3, read as 8", "7, read as 1"} <= set(found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AttentionPicture("a", attention(2, 3, 3), "abc", "ab"),
        lambda: AttentionPicture("a", attention(2, 3, 3)[0], "abc", "abc"),
        lambda: AttentionPicture("a", np.zeros((0, 1, 1)), "a", "a"),
        lambda: LinesPicture("a", [Layer("l", attention(2, 3, 3))], "abc", "ab"),
        lambda: PatchPicture("a", [Layer("l", attention(2, 3, 3))], np.zeros((3, 4, 4))),
        lambda: ImageGrid("a", [np.zeros((2, 2))], []),
        lambda: ImageGrid("a", [], []),
    ],
)
def test_shapes_that_do_not_fit_are_named(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_save_writes_a_png_and_leaves_matplotlib_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    save(ImageGrid("a", [np.zeros((4, 4))], ["x"]).draw(), tmp_path / "figures" / "a.png")
    assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "figures" / "a.png") as image:
        assert image.format == "PNG"
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["a.png"]


def test_long_and_blank_words():
    assert lettering.labels(["internationalization", " ", "a\nb", "一二三四五六七八"]) == [
        "international…", "␣", "a⏎b", "一二三四五六…",
    ]  # fmt: skip


def test_a_title_is_no_file_name():
    assert titled("attention-cross") == "What the decoder looks at in the source"
    assert titled("learning-curves") == "Learning curves"
    assert titled("positions-encoder") == "Positions encoder"
