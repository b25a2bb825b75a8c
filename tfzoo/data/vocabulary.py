"""The vocabularies of our own tokenizers: characters, bytes, and byte-level BPE."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>", "<cls>", "<sep>")


def characters(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """One token for each of the most frequent characters, up to vocab_size tokens."""
    if vocab_size <= len(SPECIALS):
        raise ValueError(
            f"vocab_size must be above {len(SPECIALS)}, the special tokens, not {vocab_size}"
        )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[: vocab_size - len(SPECIALS)]
    vocab = _numbered(sorted(frequent))
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    return inner


def every_byte() -> tokenizers.Tokenizer:
    """One token for each byte."""
    inner = tokenizers.Tokenizer(models.BPE(vocab=_numbered(byte_alphabet().values()), merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def byte_pairs(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016, Radford et al. 2019) of vocab_size tokens."""
    smallest = len(SPECIALS) + len(byte_alphabet())
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size must be at least {smallest} for bpe, the special tokens and the bytes, "
            f"not {vocab_size}"
        )
    inner = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=sys.stderr.isatty(),
    )
    inner.train_from_iterator(texts, trainer)
    return inner


def splits_lines(description: dict) -> bool:
    """Whether a tokenizer (its JSON) is of `byte_pairs`, which never merges across a line end."""
    return description["pre_tokenizer"] == json.loads(_untrained().to_str())["pre_tokenizer"]


def _untrained() -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(Regex("\n"), "merged_with_previous")
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([lines, words])
    inner.decoder = decoders.ByteLevel()
    return inner


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: id for id, token in enumerate((*SPECIALS, *tokens))}


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[int, str]:
    """The printable character that byte-level BPE writes for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
