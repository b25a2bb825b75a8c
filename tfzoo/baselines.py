"""What simpler methods reach on the embedded sets, trained and measured on the rows of the models.

C, gamma and the order of the n-grams are those that did best on the validation splits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Rows = Mapping[str, Any]
"""Columns by name: a `datasets.Dataset`, or a dict of lists."""


class Metric(NamedTuple):
    """What a figure counts, and which way is better."""

    name: str
    lower_is_better: bool = False


ACCURACY = Metric("accuracy %")
BLEU = Metric("BLEU")
CHRF = Metric("chrF")
NATS = Metric("nats a character", lower_is_better=True)


class Figure(NamedTuple):
    """What a baseline reached, by split; signature: sacrebleu's words for what the metric means."""

    baseline: str
    metric: Metric
    values: dict[str, float]
    signature: str = ""


def digits(splits: Mapping[str, Rows], measured: Sequence[str]) -> Iterator[Figure]:
    """Columns image and label: two classifiers of the pixels in 0..1."""
    linear, svm = _sklearn("linear_model"), _sklearn("svm")
    pixels = {name: _pixels(splits[name]["image"]) for name in ("train", *measured)}
    for name, model in (
        ("logistic regression", linear.LogisticRegression(max_iter=1000)),
        ("RBF SVM", svm.SVC(C=5, gamma=0.02)),
    ):
        model.fit(pixels["train"], list(splits["train"]["label"]))
        yield _accuracy(name, model, pixels, splits, measured)


def reviews(splits: Mapping[str, Rows], measured: Sequence[str]) -> Iterator[Figure]:
    """Columns text and label: logistic regression on TF-IDF of character 1- to 3-grams."""
    grams = character_grams(min_df=2)
    weights = {"train": grams.fit_transform(list(splits["train"]["text"]))}
    weights |= {name: grams.transform(list(splits[name]["text"])) for name in measured}
    model = _sklearn("linear_model").LogisticRegression(C=10, max_iter=1000)
    model.fit(weights["train"], list(splits["train"]["label"]))
    yield _accuracy("TF-IDF + logistic regression", model, weights, splits, measured)


def interface(splits: Mapping[str, Rows], measured: Sequence[str]) -> Iterator[Figure]:
    """Columns en and zh: the translation of the nearest training sentence."""
    from sacrebleu import metrics

    translate = nearest_sentence(list(splits["train"]["en"]), list(splits["train"]["zh"]))
    found = {name: translate(list(splits[name]["en"])) for name in measured}
    for metric, score in ((BLEU, metrics.BLEU(tokenize="zh")), (CHRF, metrics.CHRF())):
        values = {
            name: float(score.corpus_score(found[name], [list(splits[name]["zh"])]).score)
            for name in measured
        }
        yield Figure("nearest sentence", metric, values, str(score.get_signature()))


def shakespeare(splits: Mapping[str, Rows], measured: Sequence[str]) -> Iterator[Figure]:
    """Column text: how often each character comes, then what usually follows the six before it."""
    for name, order in (("character frequencies", 1), ("Kneser-Ney 7-grams", 7)):
        model = NGrams(splits["train"]["text"], order)
        yield Figure(name, NATS, {s: model.nats(splits[s]["text"]) for s in measured})


BASELINES: dict[str, Callable[[Mapping[str, Rows], Sequence[str]], Iterator[Figure]]] = {
    "interface": interface,
    "reviews": reviews,
    "digits": digits,
    "shakespeare": shakespeare,
}
"""By embedded set. Each trains on the split `train` and yields figures on the splits to measure."""


def nearest_sentence(
    sources: Sequence[str], targets: Sequence[str]
) -> Callable[[Sequence[str]], list[str]]:
    """A translator by memory: of a text, the target whose source is nearest.

    Near is the cosine between TF-IDF weights of character n-grams.
    """
    grams = character_grams()
    memory = grams.fit_transform(sources)

    def translate(texts: Sequence[str]) -> list[str]:
        similarity = grams.transform(texts) @ memory.T
        return [targets[row] for row in np.asarray(similarity.argmax(axis=1)).ravel().tolist()]

    return translate


def character_grams(min_df: int = 1) -> Any:
    """Scikit-learn's TF-IDF of character 1- to 3-grams that at least `min_df` texts hold."""
    vectorizer = _sklearn("feature_extraction.text").TfidfVectorizer
    return vectorizer(analyzer="char", ngram_range=(1, 3), min_df=min_df, sublinear_tf=True)


class NGrams:
    """A language model of characters by counting: interpolated Kneser-Ney.

    (Kneser and Ney 1995; Chen and Goodman 1999.) The longest n-grams are counted as they occur;
    shorter ones, by how many different characters come before them. Each level gives a discount of
    its counts to the level below, and the lowest gives its own to all characters alike, one that
    was never seen included. Contexts never reach from one text into another.

    Args:
        texts: to count.
        order: characters of the longest n-gram: a character and the order - 1 before it.
    """

    def __init__(self, texts: Iterable[str], order: int) -> None:
        texts = list(texts)
        self.order = order
        # 0 stands before each text, 1 for a character never seen. An n-gram is one integer: the
        # numbers of its characters side by side, the last one lowest.
        self.numbers = {c: n for n, c in enumerate(sorted(set().union(*texts)), start=2)}
        self.bits = (len(self.numbers) + 1).bit_length()
        if not 1 <= order <= 63 // self.bits:
            raise ValueError(
                f"the order of n-grams over {len(self.numbers)} characters must be "
                f"1 to {63 // self.bits}, not {order}"
            )
        self.levels: list[_Level] = []  # longest n-grams first
        grams = self._grams(texts)
        for length in range(order, 0, -1):
            grams, counts = np.unique(self._ends(grams, length), return_counts=True)
            self.levels.append(_Level(grams, counts, self.bits))

    def nats(self, texts: Iterable[str]) -> float:
        """Average -log probability of a character."""
        return float(-np.log(self.probabilities(texts)).mean())

    def probabilities(self, texts: Iterable[str]) -> np.ndarray:
        """(N,): of each character of the texts, one text after another, given those before it."""
        grams = self._grams(texts)
        found = np.full(len(grams), 1 / (len(self.numbers) + 1))
        for length, level in enumerate(reversed(self.levels), start=1):
            found = level.interpolate(self._ends(grams, length), found)
        return found

    def _grams(self, texts: Iterable[str]) -> np.ndarray:
        """(N,): the n-gram that ends in each character."""
        numbers: list[int] = []
        for text in texts:
            numbers += [0] * (self.order - 1)
            numbers += [self.numbers.get(character, 1) for character in text]
        characters = np.array(numbers, np.int64)
        grams = np.zeros_like(characters)
        for back in range(self.order):
            grams[back:] |= characters[: len(characters) - back] << (self.bits * back)
        return grams[characters > 0]

    def _ends(self, grams: np.ndarray, length: int) -> np.ndarray:
        """The last `length` characters of n-grams."""
        return grams & ((1 << (self.bits * length)) - 1)


class _Level:
    """The n-grams of one length: (N,) different ones in order, and their counts."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, bits: int) -> None:
        self.grams, self.counts, self.bits = grams, counts, bits
        self.contexts, first, self.followers = np.unique(
            grams >> bits, return_index=True, return_counts=True
        )
        self.totals = np.add.reduceat(counts, first)
        once, twice = (int((counts == n).sum()) for n in (1, 2))
        self.discount = once / (once + 2 * twice) if once and twice else 0.5

    def interpolate(self, grams: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Probabilities at this level, from those of the level below.

        Where the context was never seen, the latter stay.
        """
        gram, seen = _places(self.grams, grams)
        context, known = _places(self.contexts, grams >> self.bits)
        counts = np.where(seen, self.counts[gram] - self.discount, 0)
        given = self.discount * self.followers[context]
        return np.where(known, (counts + given * lower) / self.totals[context], lower)


def _places(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted number is in a sorted table, and whether it is there."""
    places = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return places, table[places] == wanted


def _accuracy(
    name: str,
    model: Any,
    inputs: Mapping[str, Any],
    splits: Mapping[str, Rows],
    measured: Sequence[str],
) -> Figure:
    """In percent."""
    values = {s: 100 * float(model.score(inputs[s], list(splits[s]["label"]))) for s in measured}
    return Figure(name, ACCURACY, values)


def _pixels(images: Iterable[Any]) -> np.ndarray:
    """(N, pixels) in 0..1."""
    return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in images])


def _sklearn(module: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f'the baselines need the package {error.name}: pip install "tfzoo[demo]"'
        ) from None
