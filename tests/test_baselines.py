"""Laws of the baselines: n-gram probabilities are probabilities, memory remembers, and all read only what they may."""

import math
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfzoo import baselines
from tfzoo.baselines import BASELINES, NGrams, nearest_sentence

texts = st.lists(st.text("abc\n", min_size=1, max_size=30), min_size=1, max_size=4)
orders = st.integers(1, 5)


@settings(deadline=None)
@given(texts, orders, st.text("abcd", max_size=8))
def test_probabilities_of_what_may_follow_sum_to_one(seen, order, context):
    model = NGrams(seen, order)
    alphabet = [*sorted(set("".join(seen))), "x"]
    last = [model.probabilities([context + character])[-1] for character in alphabet]
    assert sum(last) == pytest.approx(1)
    assert min(last) > 0


@settings(deadline=None)
@given(texts, orders, texts)
def test_texts_are_alone(seen, order, asked):
    model = NGrams(seen, order)
    alone = np.concatenate([model.probabilities([text]) for text in asked])
    np.testing.assert_array_equal(model.probabilities(asked), alone)


@settings(deadline=None)
@given(texts, orders, texts)
def test_equals_kneser_ney_as_the_books_write_it(seen, order, asked):
    model, book = NGrams(seen, order), book_kneser_ney(seen, order)
    expected = [
        book(("^" * order + text)[i : i + order], order)
        for text in asked
        for i in range(1, len(text) + 1)
    ]
    np.testing.assert_allclose(model.probabilities(asked), expected, rtol=1e-9)


def book_kneser_ney(seen, order):
    """p(last character | those before it) by dictionaries and recursion; "^" stands before each text."""
    padded = ["^" * order + text for text in seen]
    counts = {
        order: Counter(t[i - order : i] for t in padded for i in range(order + 1, len(t) + 1))
    }
    for length in range(order - 1, 0, -1):
        before = defaultdict(set)
        for gram in counts[length + 1]:
            before[gram[1:]].add(gram[0])
        counts[length] = Counter({gram: len(them) for gram, them in before.items()})
    alphabet = set("".join(seen))

    def probability(gram, length):
        if length == 0:
            return 1 / (len(alphabet) + 1)
        gram, found = gram[-length:], counts[length]
        lower = probability(gram, length - 1)
        following = [n for g, n in found.items() if g[:-1] == gram[:-1]]
        if not following:
            return lower
        once, twice = (sum(n == k for n in found.values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once and twice else 0.5
        own = max(found[gram] - discount, 0)
        return (own + discount * len(following) * lower) / sum(following)

    return probability


def test_order_one_is_the_entropy_of_the_characters():
    text = "aaab" * 2000
    frequencies = Counter(text)
    entropy = -sum(n / len(text) * math.log(n / len(text)) for n in frequencies.values())
    assert NGrams([text], 1).nats([text]) == pytest.approx(entropy, abs=1e-3)


def test_longer_contexts_help_where_they_tell():
    text = "abcabd" * 200
    assert (
        NGrams([text], 4).nats([text])
        < NGrams([text], 2).nats([text])
        < NGrams([text], 1).nats([text])
    )


@pytest.mark.parametrize("order", [0, 30])
def test_an_order_that_cannot_be_is_named(order):
    with pytest.raises(ValueError, match=f"must be 1 to .*, not {order}"):
        NGrams(["some text"], order)


def test_nearest_sentence_remembers_and_overlooks_small_changes():
    translate = nearest_sentence(["Close tab", "Open file", "Save all"], ["关闭", "打开", "保存"])
    assert translate(["Save all", "close tabs", "Open the file"]) == ["保存", "关闭", "打开"]


def test_figures_cover_the_splits_asked_for():
    train = {"text": ["good good"] * 8 + ["bad bad"] * 8, "label": [1] * 8 + [0] * 8}
    test = {"text": ["bad", "good", "good"], "label": [0, 1, 0]}
    (figure,) = BASELINES["reviews"]({"train": train, "test": test}, ["train", "test"])
    assert figure.values == {"train": 100.0, "test": pytest.approx(200 / 3)}


def test_digits_of_plain_shades():
    images = [np.full((4, 4), shade, np.uint8) for shade in (0, 250) * 10]
    rows = {"image": images, "label": [0, 1] * 10}
    figures = list(BASELINES["digits"]({"train": rows, "test": rows}, ["test"]))
    assert [f.baseline for f in figures] == ["logistic regression", "RBF SVM"]
    assert all(f.values == {"test": 100.0} for f in figures)


def test_translation_carries_the_signature():
    rows = {"en": ["Close tab", "Open file"], "zh": ["关闭这个标签页", "打开一个文件夹"]}
    bleu, chrf = BASELINES["interface"]({"train": rows, "test": rows}, ["test"])
    assert "tok:zh" in bleu.signature
    assert bleu.values["test"] == pytest.approx(100)
    assert chrf.values["test"] == pytest.approx(100)


def test_a_missing_package_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(ValueError, match=r'pip install "tfzoo\[demo\]"'):
        next(BASELINES["digits"]({"train": {}}, ["test"]))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("interface", {"nearest sentence": 30}),
        ("digits", {"logistic regression": 88, "RBF SVM": 94}),
        ("reviews", {"TF-IDF + logistic regression": 83}),
        ("shakespeare", {"Kneser-Ney 7-grams": -1.4, "character frequencies": -3.4}),
    ],
)
def test_figures_on_the_embedded_sets(name, least):
    """What the README and the recipes compare with; a change of the corpora would show here."""
    from tfzoo.data import corpora

    for figure in baselines.BASELINES[name](corpora.read(name), ["test"]):
        sign = -1 if figure.metric.lower_is_better else 1
        assert sign * figure.values["test"] > least[figure.baseline]
