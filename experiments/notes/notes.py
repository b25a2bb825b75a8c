"""Every claim of the notes as an experiment: trains what is missing, draws the figures, writes RESULTS.md.

    python experiments/notes/notes.py [CLAIM ...] [--jobs N] [--dry-run]

A claim is a folder here, such as 11-depth, or its number. Trainings are ordinary runs (`tfzoo runs runs/notes`); one
that is there already, of the same settings, is not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import multiprocessing
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

# One thread a training, as many trainings at a time as there are cores: small networks gain nothing by more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import sets
from rich.progress import Progress
from study import HERE, Claim, Page, Runs, Training

import tfzoo
from tfzoo.cli.places import hardware
from tfzoo.tracking.runs import Run, newest_checkpoint
from tfzoo.tracking.table import Row

DIVERGED = "steps in a row could not be taken"
"""What `Guard` says when it ends a training."""
RUNS = Path("runs") / "notes"
"""Where they lie, seen from where the command is given; the sets, of which the experiment files tell, beside them."""
BEGIN, END = "<!-- measured -->", "<!-- end -->"
"""Between them on a claim's page stands what `make notes` writes."""
MODULES = ["tfzoo.cli.experiment", "tfzoo.tasks", "tfzoo.data"]
"""What every training imports: once, in the process that they are forked from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("claims", nargs="*", help="folders or numbers; all, if none is named")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    options = parser.parse_args()
    claims = {folder: claim_of(folder) for folder in chosen(options.claims)}
    needed = trainings(claims.values())
    if options.dry_run:
        for training in needed:
            for command in training.commands(RUNS):
                # A task of this folder's own is found by its module.
                own = any(part.startswith("--model.class_path=") for part in command)
                prefix = f"PYTHONPATH={shlex.quote(str(HERE))} " if own else ""
                print(f"{prefix}{shlex.join(['tfzoo', *command])}")
        return
    sets.write(RUNS / "sets")
    for folder, claim in claims.items():
        its = {key(training) for training in trainings([claim])}
        asked = [training for training in needed if key(training) in its]
        train(asked, RUNS, options.jobs)
        minutes = sum(Row(Run(training.folder(RUNS))).seconds or 0 for training in asked) / 60
        page = claim.found({variant.name: Runs(variant, RUNS) for variant in claim.variants})
        page.figure.savefig(folder / "figure.png", dpi=110, bbox_inches="tight")
        fill(
            folder / "README.md",
            f"{found(page)}\n\n{len(asked)} trainings, which take a core {minutes:.0f} minutes in all; {hardware()}, "
            f"tfzoo {tfzoo.__version__}.",
        )
        (HERE / "RESULTS.md").write_text(results(), encoding="utf-8")
        print(f"{folder.name}: {page.verdict.told()}", flush=True)


def chosen(names: Sequence[str]) -> list[Path]:
    """The folders that are meant. Exits with 2 where one is not there."""
    folders = sorted(file.parent for file in HERE.glob("*/claim.py"))
    if not names:
        return folders
    found = []
    for name in names:
        said = Path(name).name
        meant = [f for f in folders if f.name == said or f.name.partition("-")[0] == said.zfill(2)]
        if not meant:
            print(
                f"there is no claim {name!r}, only {', '.join(f.name for f in folders)}",
                file=sys.stderr,
            )
            raise SystemExit(2)
        found += meant
    return list(dict.fromkeys(found))


def claim_of(folder: Path) -> Claim:
    spec = importlib.util.spec_from_file_location(
        f"claim_{folder.name.partition('-')[0]}", folder / "claim.py"
    )
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CLAIM


def trainings(claims: Iterable[Claim]) -> list[Training]:
    """Each once, however many claims look at it."""
    found: dict[str, Training] = {}
    for claim in claims:
        for variant in claim.variants:
            for one in variant.trainings:
                if key(one) not in found or one.predicted:
                    found[key(one)] = one
    return list(found.values())


def key(training: Training) -> str:
    return f"{training.file}/{training.id}"


def train(needed: Sequence[Training], runs: Path, jobs: int) -> None:
    """What is not there yet, some at a time; each in a process of its own, whose words go into a file of its folder.

    One that fails ends the whole with its last words, when those under way are done.
    """
    missing = [training for training in needed if not training.is_done(runs)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    failed: list[str] = []
    with (
        Progress() as progress,
        ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        bar = progress.add_task(f"{len(missing)} trainings", total=len(missing) or 1)
        futures = {pool.submit(run, training, runs): training for training in missing}
        for future in as_completed(futures):
            if words := future.result():
                failed.append(f"{futures[future].folder(runs)}: {words}")
                pool.shutdown(wait=False, cancel_futures=True)
                break
            progress.advance(bar)
    if failed:
        print("\n".join(failed), file=sys.stderr)
        raise SystemExit(1)


def run(training: Training, runs: Path) -> str:
    """Trains and measures; returns the last words of what failed, or nothing. To diverge is not to fail."""
    from tfzoo.cli import main as command_line

    folder = training.folder(runs)
    log = folder.with_name(f"{folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            for command in training.commands(runs):
                if command[0] != "predict" and (folder / "test.json").exists():
                    continue  # only what it says is missing
                if command[0] == "fit" and folder.exists():
                    if newest_checkpoint(Run(folder)) is None:
                        shutil.rmtree(folder)  # it was killed before it had saved anything
                    else:
                        command = ["resume", str(folder)]
                if command_line(command) != 0:
                    said.flush()
                    words = log.read_text(encoding="utf-8").strip().splitlines()[-1]
                    if DIVERGED not in words:
                        return f"tfzoo {command[0]}: {words} ({log})"
                    training.diverged(runs).write_text(words + "\n", encoding="utf-8")
                    return ""
    return ""


def found(page: Page) -> str:
    """The part of a claim's page that is measured."""
    lines = [
        f"**{page.verdict.told()}.** {' '.join(page.verdict.reasons)}",
        "",
        f"| {' | '.join(page.columns)} |",
        f"|{'|'.join(['---', *['--:'] * (len(page.columns) - 1)])}|",
        *(f"| {' | '.join(row)} |" for row in page.rows),
    ]
    return "\n".join(lines)


def fill(page: Path, measured: str) -> None:
    """Puts what was measured between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{measured}\n{END}{after}", encoding="utf-8")


def filled(page: Path) -> str:
    """What stands there."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def results() -> str:
    """One page of all, as far as they have been measured."""
    lines = [
        "# What the experiments say of the notes",
        "",
        "Written by `make notes`. A figure with ± is a mean and a standard deviation over seeds; nan is a training "
        "that diverged.",
    ]
    for folder in chosen([]):
        number, _, name = folder.name.partition("-")
        lines += ["", f"## {int(number)}. {claim_of(folder).sentence}", ""]
        lines += [filled(folder / "README.md"), ""]
        if (folder / "figure.png").exists():
            lines += [f"![{name}]({folder.name}/figure.png)", ""]
        lines += [f"[{folder.name}]({folder.name})"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
