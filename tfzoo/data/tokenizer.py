"""Text to token ids and back: characters, bytes, byte-level BPE, or a saved tokenizer.json, behind one interface."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from tfzoo.data.bpe_dropout import BytePairs

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>", "<cls>", "<sep>")
PAD, BOS, EOS, UNK, CLS, SEP = range(6)
KINDS = ("characters", "bytes", "bpe")
# What other tokenizers call the same six tokens.
_FOREIGN = {
    "<pad>": ("[PAD]", "<|pad|>"),
    "<bos>": ("<s>", "[BOS]"),
    "<eos>": ("</s>", "[EOS]"),
    "<unk>": ("[UNK]", "<|unk|>"),
    "<cls>": ("[CLS]",),
    "<sep>": ("[SEP]",),
}


class Tokenizer:
    """A `tokenizers.Tokenizer` with the six special tokens and one manner of use.

    Text is only ever text: "<eos>" written in it is encoded letter by letter, never as the special token.
    Attributes pad, bos, eos, unk, cls, sep are the ids of the special tokens (0 to 5 unless the tokenizer is foreign).
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True
        self.inner = inner
        names = [self._own_or_foreign(special) for special in SPECIALS]
        inner.add_special_tokens(names)
        self.pad, self.bos, self.eos, self.unk, self.cls, self.sep = map(inner.token_to_id, names)
        self.vocab_size: int = 1 + max(inner.get_vocab(with_added_tokens=True).values())

    def _own_or_foreign(self, special: str) -> str:
        for name in (special, *_FOREIGN[special]):
            if self.inner.token_to_id(name) is not None:
                return name
        return special

    @classmethod
    def train(cls, kind: str, texts: Iterable[str], vocab_size: int = 8000) -> Tokenizer:
        """A tokenizer for the given texts.

        kind: "characters" (the most frequent ones up to vocab_size), "bytes", "bpe" (byte-level, vocab_size tokens in
            all), or the path of a saved tokenizer.json, for which the texts are not read.
        Raises ValueError for an unknown kind or a vocabulary too small, FileNotFoundError for a missing file.
        """
        if kind == "characters":
            return cls(_characters(texts, vocab_size))
        if kind == "bytes":
            return cls(_byte_level(models.BPE(vocab=_byte_vocabulary(), merges=[]), regex=False))
        if kind == "bpe":
            return cls(_train_bpe(texts, vocab_size))
        if not kind.endswith(".json"):
            raise ValueError(
                f"tokenizer must be one of {', '.join(KINDS)}, or the path of a tokenizer.json, not {kind!r}"
            )
        return cls.load(kind)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer saved in a tokenizer.json; special tokens that it lacks are added at the end."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no tokenizer file {path}")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # tokenizers raises bare Exception
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} is not a tokenizer.json: {reason}") from error

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that `to_json` wrote."""
        return _from_json(text)

    def to_json(self) -> str:
        return self.inner.to_str()

    def encode(self, text: str, dropout: float = 0.0, chance: random.Random | None = None) -> list[int]:
        """The ids of a text, without special tokens.

        dropout: probability of skipping each merge (BPE-dropout, Provilkov et al. 2020), drawn from `chance`.
        """
        if dropout:
            return self._pairs.encode(text, dropout, chance or random.Random())
        if self._table is not None:
            return self.encode_array(text).tolist()
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        if self._table is not None:
            return [self.encode_array(text).tolist() for text in texts]
        encoded = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [one.ids for one in encoded]

    def encode_array(self, text: str) -> np.ndarray:
        """The ids of a text of any length, (N,) int32, in memory a few times that of the text."""
        if self._table is not None:
            codec, table = self._table
            codes = np.frombuffer(text.encode(codec), np.uint32 if codec == "utf-32-le" else np.uint8)
            return table[np.minimum(codes, len(table) - 1)]
        # Our own BPE never merges across a line end, so that lines may be encoded apart.
        pieces = re.findall("[^\n]*\n|[^\n]+", text) if self._by_lines else [text]
        parts = [np.empty(0, np.int32)]
        for start in range(0, len(pieces), 4096):
            encoded = self.inner.encode_batch_fast(pieces[start : start + 4096], add_special_tokens=False)
            parts += [np.asarray(one.ids, np.int32) for one in encoded]
        return np.concatenate(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return self.inner.decode([int(one) for one in ids], skip_special_tokens=True)

    def token(self, id: int) -> str:
        """A piece of text to show for one id: special tokens by name, line ends as arrows, broken bytes as \\x.."""
        name = self.inner.id_to_token(int(id))
        if name is None or id in (self.pad, self.bos, self.eos, self.unk, self.cls, self.sep):
            return name or f"<{int(id)}>"
        piece = self.inner.decode([int(id)], skip_special_tokens=False)
        if "\ufffd" in piece and "\ufffd" not in name:
            codes = {code: byte for byte, code in _byte_alphabet().items()}
            piece = bytes(codes[code] for code in name).decode("utf-8", errors="backslashreplace")
        piece = piece.replace("\n", "↵").replace("\t", "⇥")
        return piece if piece.strip() else piece.replace(" ", "␣")

    @cached_property
    def _model(self) -> dict:
        return json.loads(self.to_json())

    @cached_property
    def _table(self) -> tuple[str, np.ndarray] | None:
        """For a vocabulary without merges: the codec and the id of each code, the last entry for all unknown ones."""
        model = self._model["model"]
        if model["type"] != "BPE" or model["merges"] or self._model["normalizer"]:
            return None
        if self._model["pre_tokenizer"]:
            alphabet = _byte_alphabet()
            if set(alphabet.values()) - set(model["vocab"]):
                return None
            return "utf-8", np.array([model["vocab"][alphabet[byte]] for byte in range(256)], np.int32)
        characters = {ord(c): id for c, id in model["vocab"].items() if len(c) == 1}
        table = np.full(max(characters, default=0) + 2, self.unk, np.int32)
        table[list(characters)] = list(characters.values())
        return "utf-32-le", table

    @cached_property
    def _by_lines(self) -> bool:
        return self._model["pre_tokenizer"] == json.loads(_byte_level(models.BPE()).to_str())["pre_tokenizer"]

    @cached_property
    def _pairs(self) -> BytePairs:
        return BytePairs(self.inner)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens)"

    def __reduce__(self):
        return _from_json, (self.to_json(),)


@lru_cache(maxsize=16)
def _from_json(text: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text))


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[int, str]:
    """The printable character that byte-level BPE (Radford et al. 2019) writes for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }


def _byte_vocabulary() -> dict[str, int]:
    return {token: id for id, token in enumerate((*SPECIALS, *_byte_alphabet().values()))}


def _byte_level(model: models.BPE, regex: bool = True) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    lines = pre_tokenizers.Split(Regex("\n"), "merged_with_previous")
    inner.pre_tokenizer = pre_tokenizers.Sequence([lines, byte_level]) if regex else byte_level
    inner.decoder = decoders.ByteLevel()
    return inner


def _characters(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    if vocab_size <= len(SPECIALS):
        raise ValueError(f"vocab_size must be above {len(SPECIALS)}, the special tokens, not {vocab_size}")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[: vocab_size - len(SPECIALS)]
    vocab = {token: id for id, token in enumerate((*SPECIALS, *sorted(frequent)))}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    return inner


def _train_bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    smallest = len(_byte_vocabulary())
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size must be at least {smallest} for bpe, the special tokens and the bytes, not {vocab_size}"
        )
    inner = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return inner
