"""What jsonargparse complains of, in a sentence that names the key and the nearest right word."""

from __future__ import annotations

import difflib
import re
import sys
from ast import literal_eval
from collections.abc import Callable, Iterable
from re import Match


def plain(message: str) -> str:
    """One sentence for jsonargparse's nested report; any other message as it is.

    A report goes from key to key down to what is wrong. Alternatives of a union complain one after
    the other: the most telling is taken.
    """
    path: list[str] = []
    complaints: list[str] = []
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        # An argument of a class is told behind the class's own complaint.
        if key := re.match(r'(?:Type .* expects .*: )?Parser key "([^"]+)":\s*(.*)', text):
            if key[1] not in path[-1:]:
                path.append(key[1])
            text = key[2]
        complaints.append(text)
    if literals := _choice(complaints, message):
        return f"{'.'.join(path)}: {literals}"
    if number := _number(complaints, message):
        return f"{'.'.join(path)}: {number}"
    for pattern, sentence in _SENTENCES:
        for complaint in complaints:
            if found := re.search(pattern, complaint):
                return sentence(".".join(path), found)
    said = [text for text in complaints if text and not re.match(_SCAFFOLD, text)]
    where = f"{'.'.join(path)}: " if path else ""
    return where + (said[0] if said else "is not valid")


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where something known is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


_SCAFFOLD = (
    r"Does not validate against|Subtypes: |Errors:|Problem with given class_path|Given value|"
    r"Expected a <class 'NoneType'>|Subclass types expect|a class path \(str\)|a dict with"
)


def _unknown_key(path: str, found: Match[str]) -> str:
    *groups, word = ".".join([path, *found.groups()]).split(".")
    groups = [group for group in groups if group and group != "init_args"]
    if groups and groups[0] not in (top := _known_words("")) and top:
        groups, word = [], groups[0]
    where = f"{'.'.join(groups)} has" if groups else "there is"
    known = list(_known_words(".".join(groups)))
    if word in known:  # of a class, and none is named yet
        return (
            f"{'.'.join(groups)} has no class to take {word!r}: name it with --{'.'.join(groups)}"
        )
    return f"{where} no {word!r}{nearest(word, known)}"


def _unknown_class(path: str, found: Match[str]) -> str:
    word = found[1].rpartition(".")[2]
    return f"{path}: there is no class or file {found[1]!r}{nearest(word, _known_words(path))}"


def _wrong_keys(path: str, found: Match[str]) -> str:
    usual = ("class_path", "init_args", "dict_kwargs")
    try:
        given = [key for key in literal_eval(found[1]) if key not in usual]
    except (ValueError, SyntaxError):
        given = []
    if not given:
        return f"{path}: {found[1]} is not valid"
    return (
        f"{path} has no {given[0]!r}{nearest(given[0], usual) or ', only class_path and init_args'}"
    )


def _wrong_type(path: str, found: Match[str]) -> str:
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    return f"{path}: must be {kinds.get(found[1], found[1])}, not {found[2]!r}"


def _choice(complaints: list[str], message: str) -> str | None:
    """Where a value is none of those possible: all of them."""
    values: list[str] = []
    given = re.search(r"(?:Got value|Given value): (.*)", message)
    for complaint in complaints:
        if found := re.match(r"Expected a typing\.Literal(\[.*?\])", complaint):
            values += [str(value) for value in literal_eval(found[1])]
    if not values:
        return None
    return f"must be one of {', '.join(dict.fromkeys(values))}, not {given[1] if given else 'this'}"


def _number(complaints: list[str], message: str) -> str | None:
    """Where a number is wanted and nothing else that could be written down, as torch's learning rates take tensors."""
    given = re.search(r"Given value: (.*?)(?:\. Got value|$)", message, re.MULTILINE)
    kinds = {
        found[1] for one in complaints if (found := re.match(r"Expected a <class '(\w+)'>$", one))
    }
    classes = any(one.startswith("Expected a dot import path") for one in complaints)
    tensors = any("<class 'torch.Tensor'>" in one for one in complaints)
    if given and "float" in kinds and kinds <= {"float", "int", "NoneType"} and classes <= tensors:
        return f"must be a number, not {given[1]!r}"
    return None


_SENTENCES: tuple[tuple[str, Callable[[str, Match[str]], str]], ...] = (
    (r"unrecognized arguments: --([\w.+]+)", _unknown_key),
    (r"unrecognized arguments: (.+)", lambda _, found: f"nothing is known of {found[1]!r}"),
    (r"Group '([\w.]+)' does not accept option '([\w.]+)'", _unknown_key),
    (r"(?:does not accept option|Option) '([\w.]+)'", _unknown_key),
    (r"Key '([\w.]+)' is not expected", _unknown_key),
    (r"Expected a dot import path string: (\S+)", _unknown_class),
    (r"module '[\w.]+' has no attribute '(\w+)'", _unknown_class),
    (r"Problem with given class_path '([\w.]+)': No module", _unknown_class),
    (r"No module named '([\w.]+)'", _unknown_class),
    (
        r"Not a valid subclass of (\w+Facts)",
        lambda _, found: (
            f"the model needs data that gives {found[1]}: choose the DataModule of its task"
        ),
    ),
    (r"Multiple subclasses with name .*", lambda path, found: f"{path}: {found[0]}"),
    (r"Unable to load config '(.*)'", lambda path, found: f"{path}: there is no file {found[1]!r}"),
    (r"File does not exist: '(.*)'", lambda _, found: f"there is no config file {found[1]!r}"),
    # A Namespace had all keys right: what its class said of them is among the other complaints.
    (r"^Given value: (?!.*Namespace\()(\{.*\}|\[.*\])", _wrong_keys),
    (r"Expected a <class '(int|float|bool|str)'>\. Got value: (.*)", _wrong_type),
    (
        r"^Unexpected config:",
        lambda *_: "a config file must hold keys and what they are, as `trainer: {max_steps: 100}`",
    ),
)


def _known_words(path: str) -> Iterable[str]:
    # Only a command that reads a config, and has been imported therefore, can be told of its keys.
    if "tfzoo.cli.experiment" not in sys.modules:
        return ()
    from tfzoo.cli.words import known_words

    return known_words(path)
