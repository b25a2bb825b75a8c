"""Lines lead from a word to the words it looks at, as strong as the weights, and letters lie on nothing."""

import numpy as np
import pytest
from drawn import draws_without_complaint, words

from tfzoo.tracking.attention_pictures import AttentionPicture, Layer, LinesPicture

ENGLISH = [
    "The",
    "Law",
    "will",
    "never",
    "be",
    "perfect",
    ",",
    "but",
    "its",
    "application",
    "should",
    "be",
    "just",
    "<eos>",
]
CHINESE = ["法律", "永远", "不会", "完美", ",", "但", "适用", "应当", "公正", "<eos>"]


def sharp(heads: int, queries: int, keys: int) -> np.ndarray:
    """Each query looks at one key alone, another in each head."""
    weights = np.zeros((heads, queries, keys))
    for head in range(heads):
        for query in range(queries):
            weights[head, query, (query + head) % keys] = 1
    return weights


def lines(layers: int = 2, heads: int = 4) -> LinesPicture:
    weights = sharp(heads, len(CHINESE), len(ENGLISH))
    shown = [Layer(f"layer {i + 1}", weights) for i in range(layers)]
    return LinesPicture("attention-cross", shown, CHINESE, ENGLISH, "the translation")


def drawn_lines(picture: LinesPicture) -> list[list]:
    """Of each panel its lines: from which row at the left to which at the right, and how wide."""
    panels = []
    for axes in picture.draw().axes:
        found = []
        for collection in axes.collections:
            rows = [segment[:, 1] / picture.line - 0.5 for segment in collection.get_segments()]
            ends = [tuple(row.round().astype(int).tolist()) for row in rows]
            found += zip(ends, collection.get_linewidths(), strict=True)
        panels.append(found)
    return panels


def written(picture: LinesPicture) -> list[str]:
    """The words, which are pixels in the picture."""
    found = []
    write = LinesPicture._write

    def heard(self, ends, axes):
        write(self, ends, axes)
        found.extend(text.get_text() for text in axes.texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinesPicture, "_write", heard)
        picture.draw()
    return found


def test_every_head_of_every_layer_has_its_lines():
    picture = lines()
    found = words(picture)
    assert found.count("head 4") == 2
    assert {"layer 1: every head", "layer 2: every head"} <= set(found)
    assert sorted(set(written(picture))) == sorted({*CHINESE, *ENGLISH})
    figure = picture.draw()
    assert len(figure.images) == 2 * 5
    ink = figure.images[0].get_array()[..., 3]
    assert ink.mean() > 2
    assert not ink[:, [0, -1]].any()  # no letter is cut
    assert not ink[[0, -1]].any()
    panels = drawn_lines(picture)
    assert len(panels) == 2 * 5
    for number in (0, 1):
        for head in range(4):
            panel = panels[number * 5 + 1 + head]
            assert [ends for ends, _ in panel] == [(t, (t + head) % 14) for t in range(10)]


def test_first_of_a_layer_one_word_in_every_head():
    # The longest of the second half that is no special token, the last of several.
    word = CHINESE.index("公正")
    ends = [ends for ends, _ in drawn_lines(lines())[0]]
    assert ends == [(word, word + head) for head in range(4)]


def test_the_more_attention_the_thicker():
    weights = np.array([[[0.7, 0.295, 0.005]]])
    _, panel = drawn_lines(LinesPicture("a", [Layer("layer 1", weights)], "x", "abc"))
    (strong, weak) = panel  # what is next to nothing is left out
    assert (strong[0], weak[0]) == ((0, 0), (0, 1))
    assert strong[1] > 1.5 * weak[1]


def test_many_words_are_cut_and_many_heads_wrap():
    many = [f"w{i}" for i in range(30)]
    picture = LinesPicture("a", [Layer("layer 1", sharp(16, 30, 30))], many, many)
    found = words(picture)
    assert written(picture)[-1] == "w23"
    assert any("the first 24 of 30 words at the left" in text for text in found)
    tops = {round(axes.get_position().y1, 3) for axes in picture.draw().axes}
    assert len(tops) == 2  # two rows of eight heads


@pytest.mark.parametrize("text", ["$x_1$", "", "a\x00b", "한국어", "😀", "\n"])
def test_any_word_can_be_drawn(text):
    weights = sharp(1, 2, 2)
    draws_without_complaint(
        LinesPicture("a", [Layer("layer 1", weights)], [text, "b"], [text, "b"])
    )


def overlaps(boxes: list) -> bool:
    return any(
        a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
    )


@pytest.mark.parametrize(
    "picture",
    [
        lines(1, 2),
        AttentionPicture("alignment", sharp(2, 1, 14), ["<eos>"], ENGLISH),
        AttentionPicture("alignment", sharp(2, 10, 14), CHINESE, ENGLISH),
        LinesPicture("a", [Layer("layer 1", sharp(2, 1, 3))], ["一"], list("abc")),
    ],
)
def test_no_letters_lie_on_others_or_beyond_the_page(picture):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from tfzoo.tracking.lettering import lettered

    with lettered():
        figure = picture.draw()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        texts = [t for axes in figure.axes for t in [*axes.texts, axes.title] if t.get_text()]
        boxes = [text.get_window_extent(renderer) for text in [*figure.texts, *texts]]
    assert not overlaps(boxes)
    width, height = figure.bbox.width, figure.bbox.height
    assert all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)
