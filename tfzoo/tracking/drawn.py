"""What lies in a run's figures/: KIND-stepNUMBER of each step, or KIND where one file is drawn anew."""

from __future__ import annotations

from pathlib import Path

from tfzoo.tracking.runs import Run


def kind_and_step(file: Path) -> tuple[str, int | None]:
    """What its name says; no step where it has none."""
    kind, _, step = file.stem.rpartition("-step")
    return (kind, int(step)) if kind and step.isdecimal() else (file.stem, None)


def latest(run: Run, ending: str) -> dict[str, Path]:
    """Of each kind of a run's figures with that ending, such as ".png", the newest."""
    newest: dict[str, tuple[int, Path]] = {}
    for file in sorted(run.figures.glob(f"[!.]*{ending}")):
        kind, step = kind_and_step(file)
        newest[kind] = max(newest.get(kind, (-1, file)), (step or 0, file))
    return {kind: file for kind, (_, file) in newest.items()}


def rewind(run: Run, step: int) -> None:
    """Forget pictures and samples of steps after that: a resumed run comes there again."""
    for file in [*run.figures.glob("*-step*.*"), *run.folder.glob("trackio/media/*-step*.*")]:
        if (kind_and_step(file)[1] or 0) > step:
            file.unlink(missing_ok=True)
