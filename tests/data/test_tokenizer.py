"""Laws of the tokenizers: what is encoded is decoded, whatever it is."""

import json
import pickle
import random

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from tfzoo.data.tokenizer import BOS, CLS, EOS, PAD, SEP, UNK, Tokenizer

TEXTS = [
    "Close all tabs\n",
    "关闭所有标签页",
    "the theme, the then, there  ",
    "a < b\n\n\n  <eos> 😀",
    "naïve",
] * 4
KINDS = {
    "characters": Tokenizer.train("characters", TEXTS),
    "bytes": Tokenizer.train("bytes", []),
    "bpe": Tokenizer.train("bpe", TEXTS, 300),
}
SEEN = st.text(st.sampled_from(sorted(set("".join(TEXTS)))))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@settings(deadline=None, max_examples=60)
@given(text=st.text())
def test_any_text_comes_back(kind, text):
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert min(ids, default=SEP + 1) > SEP, "text never becomes a special token"


@settings(deadline=None, max_examples=60)
@given(text=SEEN)
def test_seen_characters_come_back(text):
    assert KINDS["characters"].decode(KINDS["characters"].encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(text=st.one_of(st.text(), SEEN))
def test_one_many_and_long_texts_are_encoded_alike(kind, text):
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.encode_batch([text, ""]) == [ids, []]
    assert tokenizer.encode_array(text).tolist() == ids
    assert tokenizer.encode_array(text).dtype == np.int32


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_and_the_library_agree(kind):
    tokenizer = KINDS[kind]
    for text in [*TEXTS, "unseen: ∮"]:
        inner = tokenizer.inner.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == inner


@pytest.mark.parametrize("kind", KINDS)
def test_specials_come_first_and_survive_json_and_pickle(kind):
    tokenizer = KINDS[kind]
    ids = (tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.cls, tokenizer.sep)
    assert ids == (PAD, BOS, EOS, UNK, CLS, SEP) == tuple(range(6))
    for again in (
        Tokenizer.from_json(tokenizer.to_json()),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert again == tokenizer
        assert again.encode(TEXTS[3]) == tokenizer.encode(TEXTS[3])
    assert tokenizer.decode([BOS, *tokenizer.encode("all"), EOS, PAD]) == "all"


def test_unseen_characters_are_unknown():
    assert KINDS["characters"].encode("a∮😁a")[1:3] == [UNK, UNK]


def test_characters_keep_the_most_frequent():
    tokenizer = Tokenizer.train("characters", ["aaabbc"], vocab_size=8)
    assert tokenizer.vocab_size == 8
    assert tokenizer.encode("abc")[2] == UNK
    assert UNK not in tokenizer.encode("ab")


def test_training_bpe_is_deterministic():
    assert Tokenizer.train("bpe", TEXTS, 300) == KINDS["bpe"]
    assert KINDS["bpe"].vocab_size == 300


def test_pieces_to_show_are_readable():
    bytewise = KINDS["bytes"]
    assert [bytewise.token(i) for i in bytewise.encode("a \n\t")] == ["a", "␣", "↵", "⇥"]
    assert bytewise.token(bytewise.encode("关")[0]) == "\\xe5"
    assert bytewise.token(EOS) == "<eos>"
    trained = Tokenizer.train("bpe", ["关闭 关闭 关闭 关闭"] * 9, 280)
    assert "".join(trained.token(i) for i in trained.encode("关闭")) == "关闭"


@settings(deadline=None, max_examples=30)
@given(text=st.one_of(st.text(max_size=40), st.text(st.sampled_from("then r"), max_size=40)))
def test_dropout_changes_the_pieces_never_the_text(text):
    tokenizer = KINDS["bpe"]
    assert tokenizer.decode(tokenizer.encode(text, 0.5, random.Random(0))) == text
    assert tokenizer.encode(text, 1e-12, random.Random(0)) == tokenizer.encode(text)


def test_dropout_follows_its_seed():
    tokenizer, text = KINDS["bpe"], "the theme, the then, there" * 5
    first = tokenizer.encode(text, 0.3, random.Random(1))
    assert first == tokenizer.encode(text, 0.3, random.Random(1))
    assert first != tokenizer.encode(text, 0.3, random.Random(2))
    assert len(first) > len(tokenizer.encode(text))


def test_a_foreign_tokenizer_keeps_its_specials_and_gets_the_missing_ones(tmp_path):
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "close": 4, "all": 5, "tabs": 6}
    foreign = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    foreign.pre_tokenizer = pre_tokenizers.Whitespace()
    foreign.enable_truncation(1)
    foreign.enable_padding(length=9)
    foreign.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.train(str(tmp_path / "tokenizer.json"), [])
    assert (tokenizer.pad, tokenizer.unk, tokenizer.cls, tokenizer.sep) == (0, 1, 2, 3)
    assert {tokenizer.bos, tokenizer.eos} == {7, 8}
    assert tokenizer.vocab_size == 9
    assert tokenizer.encode("close all windows") == [4, 5, 1]


@pytest.mark.parametrize(
    ("kind", "vocab_size", "error", "says"),
    [
        ("words", 300, ValueError, "characters, bytes, bpe"),
        ("bpe", 100, ValueError, "at least 262"),
        ("characters", 6, ValueError, "above 6"),
        ("missing.json", 300, FileNotFoundError, "missing.json"),
    ],
)
def test_mistakes_are_named(kind, vocab_size, error, says):
    with pytest.raises(error, match=says):
        Tokenizer.train(kind, TEXTS, vocab_size)


def test_a_broken_tokenizer_file_is_named(tmp_path):
    broken = tmp_path / "tokenizer.json"
    broken.write_text(json.dumps({"model": 1}))
    with pytest.raises(ValueError, match=r"is not a tokenizer.json"):
        Tokenizer.load(broken)


def test_dropout_needs_merges():
    with pytest.raises(ValueError, match="bpe"):
        KINDS["bytes"].encode("text", 0.1)


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
@settings(deadline=None, max_examples=30)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=6), unseen=st.text(max_size=30))
def test_whatever_a_tokenizer_was_trained_on(kind, texts, unseen):
    """What it was trained on comes back, and one by one, together and as arrays all texts get the same ids."""
    tokenizer = Tokenizer.train(kind, texts, 300)
    again = Tokenizer.from_json(tokenizer.to_json())
    for text in texts if kind == "characters" else [*texts, unseen]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    every = [*texts, unseen, "\n".join(texts)]
    ids = [tokenizer.encode(text) for text in every]
    assert tokenizer.encode_batch(every) == ids
    assert [tokenizer.encode_array(text).tolist() for text in every] == ids
    assert again.encode_batch(every) == ids
    assert all(0 <= id < tokenizer.vocab_size for row in ids for id in row)
