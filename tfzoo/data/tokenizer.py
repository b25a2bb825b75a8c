"""Text to token ids and back: characters, bytes, BPE or a saved tokenizer.json, all alike."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import tokenizers

from tfzoo.data import vocabulary
from tfzoo.data.bpe_dropout import BytePairs
from tfzoo.data.vocabulary import SPECIALS

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

    Text is only ever text: "<eos>" written in it is encoded letter by letter, never as the special
    token. Attributes pad, bos, eos, unk, cls, sep are the ids of the special tokens (0 to 5 unless
    the tokenizer is foreign).
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True
        self.inner = inner
        names = [self._own_or_foreign(special) for special in SPECIALS]
        inner.add_special_tokens(names)
        vocab: dict[str, int] = inner.get_vocab(with_added_tokens=True)
        self.pad, self.bos, self.eos, self.unk, self.cls, self.sep = (vocab[name] for name in names)
        self.vocab_size = 1 + max(vocab.values())

    def _own_or_foreign(self, special: str) -> str:
        for name in (special, *_FOREIGN[special]):
            if self.inner.token_to_id(name) is not None:
                return name
        return special

    @classmethod
    def train(cls, kind: str, texts: Iterable[str], vocab_size: int = 8000) -> Tokenizer:
        """A tokenizer for the given texts.

        kind: "characters" (the most frequent ones up to vocab_size), "bytes", "bpe" (byte-level,
            vocab_size tokens in all), or the path of a saved tokenizer.json, for which the texts
            are not read.
        Raises ValueError for an unknown kind or a vocabulary too small, FileNotFoundError for a
        missing file.
        """
        if kind == "characters":
            return cls(vocabulary.characters(texts, vocab_size))
        if kind == "bytes":
            return cls(vocabulary.every_byte())
        if kind == "bpe":
            return cls(vocabulary.byte_pairs(texts, vocab_size))
        if not kind.endswith(".json"):
            raise ValueError(
                f"tokenizer must be {', '.join(KINDS)} or a path of a tokenizer.json, not {kind!r}"
            )
        return cls.load(kind)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer saved in a tokenizer.json; special tokens that it lacks come last."""
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

    def encode(
        self, text: str, dropout: float = 0.0, chance: random.Random | None = None
    ) -> list[int]:
        """The ids of a text, without special tokens.

        dropout: probability of skipping each merge (BPE-dropout, Provilkov et al. 2020), drawn from
            `chance`.
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
            codes = np.frombuffer(
                text.encode(codec), np.uint32 if codec == "utf-32-le" else np.uint8
            )
            return table[np.minimum(codes, len(table) - 1)]
        # Our own BPE never merges across a line end, so that lines may be encoded apart.
        pieces = re.findall("[^\n]*\n|[^\n]+", text) if self._by_lines else [text]
        parts = [np.empty(0, np.int32)]
        for start in range(0, len(pieces), 4096):
            encoded = self.inner.encode_batch_fast(
                pieces[start : start + 4096], add_special_tokens=False
            )
            parts += [np.asarray(one.ids, np.int32) for one in encoded]
        return np.concatenate(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return self.inner.decode([int(one) for one in ids], skip_special_tokens=True)

    def token(self, id: int) -> str:
        """What to show for one id: its text, line ends as arrows, broken characters as \\x.."""
        name = self.inner.id_to_token(int(id))
        if name is None or id in (self.pad, self.bos, self.eos, self.unk, self.cls, self.sep):
            return name or f"<{int(id)}>"
        piece = self.inner.decode([int(id)], skip_special_tokens=False)
        if "\ufffd" in piece and "\ufffd" not in name:
            codes = {code: byte for byte, code in vocabulary.byte_alphabet().items()}
            piece = bytes(codes[code] for code in name).decode("utf-8", errors="backslashreplace")
        piece = piece.replace("\n", "↵").replace("\t", "⇥")
        return piece if piece.strip() else piece.replace(" ", "␣")

    @cached_property
    def _model(self) -> dict:
        return json.loads(self.to_json())

    @cached_property
    def _table(self) -> tuple[str, np.ndarray] | None:
        """Without merges: the codec and the id of each code, last that of all unknown codes."""
        model = self._model["model"]
        if model["type"] != "BPE" or model["merges"] or self._model["normalizer"]:
            return None
        if self._model["pre_tokenizer"]:
            alphabet = vocabulary.byte_alphabet()
            if set(alphabet.values()) - set(model["vocab"]):
                return None
            return "utf-8", np.array(
                [model["vocab"][alphabet[byte]] for byte in range(256)], np.int32
            )
        characters = {ord(c): id for c, id in model["vocab"].items() if len(c) == 1}
        table = np.full(max(characters, default=0) + 2, self.unk, np.int32)
        table[list(characters)] = list(characters.values())
        return "utf-32-le", table

    @cached_property
    def _by_lines(self) -> bool:
        return vocabulary.splits_lines(self._model)

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
