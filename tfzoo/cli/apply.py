"""A trained checkpoint put to use on text or images, without its data set."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfzoo.tracking.runs import check_checkpoint

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes raised so that they are told in one line."""

    def error(self, message: str) -> Any:
        raise ValueError(f"{message}; {self.prog} --help shows how it is used")


def translate(arguments: list[str]) -> None:
    """`tfzoo translate CHECKPOINT [TEXT ...]`: a translation on a line for each text or line."""
    parser = _parser(
        "translate", "Translate texts, the lines of a file, or those of standard input."
    )
    parser.add_argument("--truncate", action="store_true", help="cut texts too long for the model")
    parser.add_argument("--beam", type=int, help="beams; 1 decodes greedily")
    parser.add_argument("--length-penalty", type=float, help="above 0 favours longer translations")
    options = _options(parser, arguments)
    from tfzoo.models import Beam
    from tfzoo.tasks import Translation

    task = Translation.from_checkpoint(options.checkpoint, options.device)
    task.beam = Beam(
        task.beam.size if options.beam is None else options.beam,
        task.beam.length_penalty if options.length_penalty is None else options.length_penalty,
    )
    lines = _texts(options)
    full = [line for line in lines if line.strip()]
    found = iter(
        _with_progress(task.translate(full, truncate=options.truncate), len(full), "translating")
    )
    for line in lines:
        # An empty line stays one and a broken translation is joined: output and input go side by side.
        print(" ".join(next(found).splitlines()) if line.strip() else "", flush=True)
    _tell_truncated(task.truncated)


def classify(arguments: list[str]) -> None:
    """`tfzoo classify CHECKPOINT [TEXT or IMAGE ...]`: label and probability, then the input, tab-separated."""
    parser = _parser(
        "classify",
        "Classify texts or lines, pairs of texts with a tab between, or image files, by a checkpoint of either task.",
    )
    parser.add_argument("--truncate", action="store_true", help="cut texts too long for the model")
    parser.add_argument("--json", action="store_true", help="every class with its probability")
    options = _options(parser, arguments)
    from tfzoo.tasks.classification import Classification, ImageClassification

    task: Any = Classification.from_checkpoint(options.checkpoint, options.device)
    if isinstance(task, ImageClassification):
        names: list[Any] = _image_files(options.text or _lines(options))
        read = _with_progress(map(_image, names), len(names), "reading")
        inputs: list[Any] = list(read)
    else:
        names = inputs = [line for line in _texts(options) if line.strip()]
        _no_images(options.text)
        if task.facts.pairs:
            inputs = [_pair(name) for name in names]
    results = (
        task.classify(inputs)
        if isinstance(task, ImageClassification)
        else task.classify(inputs, truncate=options.truncate)
    )
    for name, classes in zip(
        names, _with_progress(results, len(inputs), "classifying"), strict=True
    ):
        if options.json:
            print(
                json.dumps({"input": str(name), "classes": classes}, ensure_ascii=False), flush=True
            )
        else:
            label, probability = next(iter(classes.items()))
            print(f"{label}\t{probability:.3f}\t{name}", flush=True)
    _tell_truncated(task.truncated)


def generate(arguments: list[str]) -> None:
    """`tfzoo generate CHECKPOINT --prompt TEXT`: the prompt and what follows it."""
    parser = _parser("generate", "Go on with a text, given or one a line; sampled unless --greedy.")
    parser.add_argument("--prompt", action="append", help="text to go on with; may be repeated")
    parser.add_argument("--max-new-tokens", type=int, default=300)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int, help="of the draw; none: another text each time")
    parser.add_argument("--greedy", action="store_true", help="always the most probable token")
    options = _options(parser, arguments)
    if options.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, not {options.max_new_tokens}")
    from tfzoo.models import Greedy, Sampling
    from tfzoo.tasks import Generation

    def strategy(start: int) -> Greedy | Sampling:
        if options.greedy:
            return Greedy()
        # Prompts that are alike need not go on alike because they begin two batches.
        seed = None if options.seed is None else options.seed + start
        return Sampling(options.temperature, options.top_k, options.top_p, seed)

    strategy(0)  # complains, if it does, before anything is read
    task = Generation.from_checkpoint(options.checkpoint, options.device)
    prompts, most = options.prompt or _texts(options), options.max_new_tokens
    found = (
        text
        for start in range(0, len(prompts), 16)
        for text in task.generate(prompts[start : start + 16], most, strategy(start))
    )
    for prompt, text in zip(
        prompts, _with_progress(found, len(prompts), "generating"), strict=True
    ):
        print(prompt + text, flush=True)
    _tell_truncated(task.truncated)


def _tell_truncated(count: int) -> None:
    if count:
        print(
            f"{count} {'text was' if count == 1 else 'texts were'} cut to fit the model",
            file=sys.stderr,
        )


def _parser(name: str, summary: str) -> Parser:
    parser = Parser(prog=f"tfzoo {name}", description=summary, allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file of a run")
    parser.add_argument(
        "text", nargs="*", help="inputs; none: the lines of --file or standard input"
    )
    parser.add_argument("--file", type=Path, help="a file with one input a line")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    return parser


def _options(parser: Parser, arguments: list[str]) -> argparse.Namespace:
    options = parser.parse_intermixed_args(arguments)
    check_checkpoint(options.checkpoint)  # before anything takes seconds to import
    return options


def _texts(options: argparse.Namespace) -> list[str]:
    return list(options.text) if options.text else _lines(options)


def _lines(options: argparse.Namespace) -> list[str]:
    """The lines of the file or of standard input. Raises ValueError where there is nothing, or it is not UTF-8."""
    if options.file is None and sys.stdin.isatty():
        print("reading from standard input; end it with Ctrl-D", file=sys.stderr)
    name = options.file or "standard input"
    content = options.file.read_bytes() if options.file else sys.stdin.buffer.read()
    try:
        # Line ends alone: a form feed or the like in a text begins no other.
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text: byte {error.start} is {content[error.start]:#x}"
        ) from None
    if not any(line.strip() for line in lines):
        raise ValueError(f"{name} holds no text")
    return [line.removesuffix("\r") for line in lines]


def _image_files(names: Sequence[str]) -> list[Path]:
    """The image files named, folders opened."""
    files: list[Path] = []
    for name in map(Path, names):
        if name.is_dir():
            files += sorted(f for f in name.rglob("*") if f.suffix.lower() in IMAGE_ENDINGS)
        else:
            files.append(name)
    if not files:
        raise ValueError(f"no image files in {', '.join(map(str, names))}")
    return files


def _no_images(texts: Sequence[str]) -> None:
    """Raises ValueError where an image, be there a file or not, is given to a checkpoint that classifies texts."""
    for text in texts:
        named = Path(text).suffix.lower() in IMAGE_ENDINGS
        if named and (len(text.split()) == 1 or Path(text).is_file()):
            raise ValueError(f"{text} names an image; this checkpoint classifies texts")


def _pair(line: str) -> tuple[str, str]:
    first, tab, second = line.partition("\t")
    if not tab:
        raise ValueError(f"this checkpoint classifies pairs of texts, with a tab between: {line!r}")
    return first, second


def _image(path: Path) -> Any:
    from PIL import Image

    if not path.is_file():
        raise FileNotFoundError(f"no image file at {path}; this checkpoint classifies images")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from None


def _with_progress(results: Any, total: int, what: str) -> Any:
    """A progress bar on stderr where a person is watching."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if total < 2 or not console.is_terminal:
        return results
    return track(results, description=what, total=total, console=console, transient=True)
