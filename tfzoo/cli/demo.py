"""The four embedded experiments, trained and set beside simpler methods on the same test rows."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import tfzoo
from tfzoo import signals
from tfzoo.baselines import ACCURACY, BASELINES, BLEU, CHRF, NATS, Figure, Metric
from tfzoo.cli.apply import Parser
from tfzoo.cli.comparison import COLUMNS, Comparison, markdown, notes, terminal
from tfzoo.cli.complaints import nearest
from tfzoo.cli.mistakes import is_mistake, one_line
from tfzoo.cli.places import hardware, program, short
from tfzoo.tracking.drawn import latest
from tfzoo.tracking.learning_curves import Baselines
from tfzoo.tracking.runs import Run

HERE = Path("experiments") / "demo"


class Experiment(NamedTuple):
    """An experiment of the demo.

    task and corpus: what is learned from which embedded set; measured: for each metric what
    `tfzoo test` calls it, and the factor to its unit here; use: a command to try the checkpoint.
    """

    task: str
    corpus: str
    measured: Mapping[Metric, tuple[str, float]]
    use: str


EXPERIMENTS = {
    "translation": Experiment(
        "translation",
        "interface",
        {BLEU: ("test/bleu", 1), CHRF: ("test/chrf", 1)},
        'echo "Close all tabs" | {tfzoo} translate {checkpoint}',
    ),
    "reviews": Experiment(
        "text classification",
        "reviews",
        {ACCURACY: ("test/accuracy", 100)},
        '{tfzoo} classify {checkpoint} "书很好,孩子很喜欢"',
    ),
    "digits": Experiment(
        "image classification",
        "digits",
        {ACCURACY: ("test/accuracy", 100)},
        "{tfzoo} classify {checkpoint} {digit}",
    ),
    "shakespeare": Experiment(
        "generation",
        "shakespeare",
        # Bits a character compare across tokenizers, and so do nats.
        {NATS: ("test/bits_per_character", math.log(2))},
        '{tfzoo} generate {checkpoint} --prompt "ROMEO:"',
    ),
}


class Trained(NamedTuple):
    """What is left of a training: metrics are those of the best checkpoint on the test split."""

    run: Run
    checkpoint: Path
    metrics: Mapping[str, float]
    parameters: int
    seconds: float


def demo(arguments: list[str]) -> None:
    """`tfzoo demo`: trains, measures, compares; the table stays in RUNS/demo.md."""
    options = _parser().parse_args(arguments)
    names = _chosen(options.only)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    if options.baselines_only:
        _print_baselines(console, names)
        return
    files = {name: _folder(options.experiments) / f"{name}.yaml" for name in names}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"the demo needs the experiment file {file}")
    runs = Path(options.runs)
    runs.mkdir(parents=True, exist_ok=True)

    console.rule("baselines")
    baselines = {
        name: [f for f, _ in _baselines(console, name, ["validation", "test"])] for name in names
    }
    trained: dict[str, Trained] = {}
    for number, name in enumerate(names, start=1):
        if request := signals.received():  # since the last training's end, which heeded none
            others = ",".join(names[number - 1 :])
            told = f"stopped before {name}; {program()} demo --only {others} trains what is left"
            raise signals.Stopped(request, told)
        console.rule(f"{name}, {number} of {len(names)}")
        try:
            trained[name] = _train(files[name], runs, _beside(name, baselines[name]))
        except Exception as error:
            # The others still have their turn.
            if not is_mistake(error):
                traceback.print_exc()
            print(f"{name} failed: {one_line(error)}", file=sys.stderr, flush=True)

    rows = [
        c.cells() for name in names for c in _compared(name, trained.get(name), baselines[name])
    ]
    remarks = [f"seconds: all of tfzoo fit, on {hardware()}"]
    remarks += notes([figure for name in names for figure in baselines[name]])
    look = [line for name in trained for line in _look(name, trained[name])]
    look.append(f"in the browser: {program()} dashboard {shlex.quote(short(runs.absolute()))}")
    report = runs / "demo.md"
    report.write_text(_report(rows, remarks, look), encoding="utf-8")
    console.print(terminal("On the test split, of which training saw nothing", COLUMNS, rows))
    print("\n".join([*remarks, "", *look, "", f"this table: {short(report)}"]), flush=True)
    failed = [name for name in names if name not in trained]
    if failed:
        raise ValueError(f"{', '.join(failed)} failed: see above")


def _parser() -> Parser:
    parser = Parser(prog="tfzoo demo", description=str(__doc__), allow_abbrev=False)
    parser.add_argument("--runs", default="runs", help="where all runs are kept (default: runs)")
    parser.add_argument("--only", help=f"some of {','.join(EXPERIMENTS)}")
    parser.add_argument(
        "--experiments", type=Path, help=f"the folder of the four files (default: {HERE})"
    )
    parser.add_argument(
        "--baselines-only",
        action="store_true",
        help="train no model; baselines on the validation and the test split",
    )
    return parser


def _chosen(only: str | None) -> list[str]:
    names = list(EXPERIMENTS) if only is None else [n.strip() for n in only.split(",")]
    for name in names:
        if name not in EXPERIMENTS:
            raise ValueError(
                f"the demo has no experiment {name!r}{nearest(name, EXPERIMENTS)}; "
                f"--only takes some of {','.join(EXPERIMENTS)}"
            )
    return list(dict.fromkeys(names))


def _folder(given: Path | None) -> Path:
    """Where the experiment files are: here, or in the checkout that the package is part of."""
    folders = [given] if given else [HERE, Path(tfzoo.__file__).parents[1] / HERE]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no folder {folders[0]}: run tfzoo demo in a checkout of tfzoo, or name its experiments "
        "with --experiments"
    )


def _baselines(
    console: Console, name: str, measured: Sequence[str]
) -> Iterator[tuple[Figure, float]]:
    """The baselines of an experiment, each with its seconds, told as they come."""
    from tfzoo.data import corpora

    corpus = EXPERIMENTS[name].corpus
    splits: Any = corpora.read(corpus)
    start = time.monotonic()
    figures = BASELINES[corpus](splits, measured)
    while True:
        with console.status(f"baselines of {name}"):
            figure = next(figures, None)
        if figure is None:
            return
        seconds = time.monotonic() - start
        values = ", ".join(f"{value:.2f} {split}" for split, value in figure.values.items())
        print(
            f"{name}: {figure.baseline} {figure.metric.name} {values} ({seconds:.1f} s)", flush=True
        )
        yield figure, seconds
        start = time.monotonic()


def _print_baselines(console: Console, names: Sequence[str]) -> None:
    found = [
        (EXPERIMENTS[name].corpus, figure, seconds)
        for name in names
        for figure, seconds in _baselines(console, name, ["validation", "test"])
    ]
    rows = [
        [
            corpus,
            figure.baseline,
            figure.metric.name,
            *(f"{value:.2f}" for value in figure.values.values()),
            f"{seconds:.1f}",
        ]
        for corpus, figure, seconds in found
    ]
    columns = ("set", "baseline", "metric", "validation", "test", "seconds")
    console.print(terminal("Baselines, trained on the train split", columns, rows))
    print("\n".join(notes([figure for _, figure, _ in found])), flush=True)


def _beside(name: str, figures: Sequence[Figure]) -> dict[str, dict[str, float]]:
    """The figures on the validation split, by the metrics whose curves they are to be seen beside."""
    found: dict[str, dict[str, float]] = {}
    for metric, (key, factor) in EXPERIMENTS[name].measured.items():
        reached = {
            f.baseline: f.values["validation"] / factor for f in figures if f.metric == metric
        }
        found[key.replace("test/", "val/")] = reached
    return found


def _train(file: Path, runs: Path, baselines: Baselines) -> Trained:
    """`tfzoo fit`, then `tfzoo test` of its best checkpoint, in this process."""
    from tfzoo.cli.experiment import ExperimentCLI

    start = time.monotonic()
    # One device: on several, each process would be a demo of its own.
    command = ["fit", "-c", str(file), "--runs", str(runs), "--trainer.devices", "1"]
    fit = ExperimentCLI(command, baselines)
    seconds = time.monotonic() - start
    assert fit.run is not None
    checkpoint = Path(fit.trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    ExperimentCLI(["test", "--ckpt_path", str(checkpoint)])
    return Trained(
        fit.run,
        checkpoint,
        json.loads((fit.run.folder / "test.json").read_text(encoding="utf-8")),
        fit.model.notes()["parameters"],
        seconds,
    )


def _compared(
    name: str, trained: Trained | None, figures: Sequence[Figure]
) -> Iterator[Comparison]:
    experiment = EXPERIMENTS[name]
    for metric, (key, factor) in experiment.measured.items():
        yield Comparison(
            experiment.task,
            experiment.corpus,
            metric,
            trained.metrics[key] * factor if trained else None,
            [figure for figure in figures if figure.metric == metric],
            trained.parameters if trained else None,
            trained.seconds if trained else None,
        )


def _look(name: str, trained: Trained) -> list[str]:
    """Where to look, and what to try."""
    run = trained.run
    files = {
        "checkpoint": [trained.checkpoint],
        "samples": latest(run, ".md").values(),
    }
    pictures = [file.name for file in latest(run, ".png").values()]
    command = EXPERIMENTS[name].use.format(
        tfzoo=program(),
        checkpoint=shlex.quote(short(trained.checkpoint)),
        digit=shlex.quote(short(_digit(run))) if name == "digits" else "",
    )
    return [
        f"{name}: {short(run.folder)}",
        *(f"  {what}: {' '.join(map(short, found))}" for what, found in files.items() if found),
        *([f"  pictures: {' '.join(pictures)} in {short(run.figures)}"] if pictures else []),
        f"  {command}",
    ]


def _digit(run: Run) -> Path:
    """A test image as a file, to classify."""
    from tfzoo.data import corpora

    path = run.folder / "digit.png"
    corpora.read("digits")["test"][0]["image"].save(path)
    return path


def _report(rows: Sequence[Sequence[str]], remarks: Sequence[str], look: Sequence[str]) -> str:
    return "\n".join(
        [
            "# Demo: on the test split, of which training saw nothing",
            "",
            markdown(COLUMNS, rows),
            "",
            *(f"- {remark}" for remark in remarks),
            "",
            "```",
            *look,
            "```",
            "",
        ]
    )
