"""What is supposed of data that is not read: a plan needs shapes, not contents."""

from __future__ import annotations

from dataclasses import dataclass, field

import tokenizers

from tfzoo.data.tokenizer import Tokenizer
from tfzoo.data.vocabulary import SPECIALS


@dataclass
class Suppositions:
    """What may be supposed where a config does not say it, and in words what was.

    positions: tokens that the model takes at most; side: pixels of an image's side that it takes at most; classes: how
    many there are, None for what is usual.
    """

    positions: int
    side: int = 224
    classes: int | None = None
    said: list[str] = field(default_factory=list)

    def longest(self, max_length: int | None, batch_tokens: int) -> int:
        """Tokens of the longest sequence."""
        longest = max_length or min(self.positions, batch_tokens)
        why = "data.max_length" if max_length else "as many as the model has positions for"
        self.said.append(f"sequences of up to {longest:,} tokens ({why})")
        return longest

    def labels(self, usual: int) -> tuple[str, ...]:
        """The names of the classes."""
        count = self.classes or usual
        self.said.append(f"{count:,} classes (--classes)")
        return tuple(map(str, range(count)))

    def tokenizer(self, kind: str, vocab_size: int) -> Tokenizer:
        """A tokenizer with as many tokens as the real one will have, or may have at most."""
        if kind == "bytes" or kind.endswith(".json"):
            return Tokenizer.train(kind, ())
        words = {word: place for place, word in enumerate(SPECIALS)}
        words |= {f"token {place}": place for place in range(len(words), vocab_size)}
        self.said.append(f"a vocabulary of {vocab_size:,} tokens ({kind}, data.vocab_size)")
        return Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>")))
