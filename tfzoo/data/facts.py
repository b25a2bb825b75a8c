"""What the data knows and the model must be told: vocabulary, class names, lengths, image size."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self, get_origin, get_type_hints

from tfzoo.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Facts:
    """The base of each task's facts, which go from the data to the task and into its checkpoints.

    A subclass is a frozen dataclass of plain values, tuples, dicts and tokenizers.
    """

    def to_dict(self) -> dict[str, Any]:
        """The facts as json-like values, a tokenizer as its JSON string.

        `torch.load(weights_only=True)` reads them.
        """
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """The facts that `to_dict` wrote.

        Raises ValueError naming the entries that are missing or unknown.
        """
        hints = get_type_hints(cls)
        if set(hints) != set(plain):
            raise ValueError(
                f"{cls.__name__} needs {', '.join(sorted(hints))}, but the checkpoint holds "
                f"{', '.join(sorted(map(str, plain))) or 'nothing'}"
            )
        return cls(**{name: _typed(hints[name], value) for name, value in plain.items()})

    def check_same(self, other: Facts) -> None:
        """Raises ValueError where a network made for `other`, a checkpoint's facts, cannot serve.

        Only what gives the network its inputs and outputs their meaning must agree: vocabularies
        and labels.
        """
        for name, theirs in vars(other).items():
            ours: Any = getattr(self, name, None)
            if isinstance(theirs, Tokenizer) and theirs.to_json() != ours.to_json():
                raise ValueError(
                    f"the {name} vocabulary does not match the checkpoint's: "
                    f"{ours.vocab_size} tokens here, {theirs.vocab_size} there; "
                    "use the data the checkpoint was trained on, or its tokenizer.json"
                )
            if name == "pairs" and theirs != ours:
                said = ("single texts", "pairs of texts")
                raise ValueError(
                    f"the checkpoint was trained on {said[theirs]}, the data gives {said[ours]}"
                )
            if name == "labels" and tuple(theirs) != tuple(ours):
                raise ValueError(
                    f"the labels do not match the checkpoint's: "
                    f"{', '.join(ours)} here, {', '.join(theirs)} there"
                )


def _plain(value: Any) -> Any:
    if isinstance(value, Tokenizer):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value


def _typed(hint: Any, value: Any) -> Any:
    if hint is Tokenizer:
        return Tokenizer.from_json(value)
    return tuple(value) if get_origin(hint) is tuple else value
