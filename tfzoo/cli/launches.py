"""What `tfzoo submit` is asked for, checked and made ready: new runs, sweeps, and runs submitted before."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfzoo.cli.launch import Again, Launch, without
from tfzoo.cli.places import program, short
from tfzoo.slurm import queue
from tfzoo.slurm.resources import Resources, Site, resources_of
from tfzoo.slurm.sbatch import check_sbatch, find_script
from tfzoo.slurm.sweep import Point, names, points, told
from tfzoo.tracking.runs import Run, checked_name, fresh_id, newest_checkpoint
from tfzoo.tracking.state import Circumstances
from tfzoo.tracking.submitted import Submitted

if TYPE_CHECKING:
    from tfzoo.cli.checked import CheckedExperiment

ASKED = {
    "nodes": "nodes (1)",
    "gpus": "GPUs of each node, one task each: 4, or a100:4",
    "tasks": "tasks of each node, without GPUs (1)",
    "time": "limit: minutes, HH:MM:SS or D-HH:MM:SS",
    "partition": "partition",
    "account": "account that pays",
    "qos": "quality of service",
    "constraint": "features that nodes must have",
    "memory": "of each node: 64G",
    "cpus": "CPUs of each task",
    "name": "of the job; none: the experiment's",
}
"""Options that are resources."""


def _asked(options: argparse.Namespace, base: Resources) -> Resources:
    said: dict[str, Any] = {name: getattr(options, name) for name in ASKED}
    return resources_of(said | {"options": options.sbatch}, base)


def new(options: argparse.Namespace, rest: list[str]) -> Launch:
    """A new run, or a new sweep, checked: whatever cannot run raises ValueError or OSError."""
    site = Site.read(options.cluster)
    resources = _asked(options, site.resources)
    script = find_script(options.script or site.script)
    found = _points(options)
    if not options.dry_run:
        check_sbatch()
    flags = [list(point.flags) for point in found]
    experiment = _experiment(
        [*rest, *(flags[0] if flags else [])], resources, told(found[0].values) if found else ""
    )
    for point, further in _progress(list(zip(found[1:], flags[1:], strict=True))):
        with _naming(told(point.values)):
            experiment.check([*rest, *further])
    said = experiment.said()
    id = said.run_id or fresh_id()
    home = said.runs / checked_name("experiment", said.experiment)
    checked_name("run id", id)
    if resources.name is None:
        resources = resources_of({"name": said.experiment}, resources)
    common = without(rest, "--run_id")
    here = Path.cwd()
    if not found:
        run = Run(home / id)
        _check_free([run])
        return Launch(resources, script, here, run.folder, [*common, "--run_id", id], [run])
    sweep = home / "sweeps" / id
    if sweep.exists():
        raise ValueError(f"there is a sweep {short(sweep)} already: choose another --run_id")
    runs = [Run(home / name) for name in names(found, id)]
    _check_free(runs)
    values = [point.values for point in found]
    return Launch(resources, script, here, sweep, common, runs, values, flags, options.at_once)


def _points(options: argparse.Namespace) -> list[Point]:
    """Of the sweep that is asked for; none of a single run."""
    if not (options.sweep or options.points):
        return []
    found = points(options.sweep, options.points, options.sample, options.sample_seed)
    for key in {key for point in found for key in point.values}:
        if key in ("runs", "run_id", "experiment", "ckpt_path", "config"):
            raise ValueError(f"{key} cannot vary within a sweep")
    return found


def again(options: argparse.Namespace, rest: list[str]) -> list[Launch]:
    """Runs as they were submitted before, checked likewise."""
    runs = list(dict.fromkeys(Run(Path(path).resolve()) for path in options.again))
    site = Site.read(options.cluster) if options.cluster else Site()
    before: list[Submitted] = []
    for run in runs:
        if not run.folder.is_dir():
            raise FileNotFoundError(f"there is no run {run.folder}")
        submitted = Submitted.of(run)
        if submitted is None:
            raise ValueError(
                f"{run.folder} was not submitted with tfzoo submit: {program()} resume goes on with it, here or in a "
                "script of yours"
            )
        before.append(submitted)
    known = queue.jobs(one.job for one in before if one.job)
    for run in runs:
        state = Circumstances(run).state(known)
        if state.is_going:
            raise ValueError(
                f"{run.folder} is {state.told()}: it can be submitted again when that is over"
            )
        if state.word == "finished" and not rest:
            raise ValueError(
                f"{run.folder} has finished: give it a later end, as --trainer.max_steps 2000"
            )
    if not options.dry_run:
        check_sbatch()
    launches: list[Launch] = []
    for run, submitted in zip(runs, before, strict=True):
        arguments = [*submitted.arguments, *rest]
        if newest_checkpoint(run) is not None:
            arguments = without(arguments, "--ckpt_path")
        resources = _asked(options, resources_of(submitted.resources, site.resources))
        directory = Path(submitted.directory)
        if not directory.is_dir():
            raise FileNotFoundError(f"{run.folder} was submitted from {directory}, which is gone")
        with chdir(directory):
            said = _experiment(arguments, resources, "").said()
        trains = said.runs / said.experiment / (said.run_id or "")
        if trains.resolve() != run.folder:
            raise ValueError(
                f"{run.folder} was submitted as {trains}, and would be trained there: {program()} resume goes on with "
                "it where it lies"
            )
        script = find_script(options.script or site.script or submitted.script)
        sweep = submitted.sweep
        launches.append(
            Again(resources, script, directory, run.folder, arguments, [run], sweep=sweep)
        )
    return launches


def _experiment(arguments: list[str], resources: Resources, point: str) -> CheckedExperiment:
    from tfzoo.cli.checked import CheckedExperiment  # and torch with it

    with _naming(point):
        return CheckedExperiment(arguments, resources)


@contextmanager
def _naming(point: str) -> Iterator[None]:
    """Names the point of a sweep that a mistake is of."""
    from tfzoo.cli.mistakes import is_mistake, one_line

    try:
        yield
    except Exception as error:
        if not (point and is_mistake(error)):
            raise
        raise ValueError(f"the point {point}: {one_line(error)}") from error


def _check_free(runs: Iterable[Run]) -> None:
    from tfzoo.cli.checked import check_free

    there = [run for run in runs if run.folder.exists()]
    if not there:
        return
    found = [Circumstances(run) for run in there]
    known = queue.jobs(one.job for one in found if one.job)
    for one in found:
        state = one.state(known)
        going = (
            f"{state.word} as job {one.job}"
            if one.job and state.word != "running"
            else state.told()
        )
        check_free(one.run, going if state.is_going else None)


def _progress(rows: list[Any]) -> Iterable[Any]:
    """Where a person waits for a long sweep to be checked."""
    if len(rows) < 10 or not sys.stderr.isatty():
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, "checking", console=Console(stderr=True), transient=True)
