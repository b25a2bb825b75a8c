"""`tfzoo submit`: an experiment, or a sweep of it, as a SLURM job, after everything was checked that can be."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfzoo.cli.apply import Parser
from tfzoo.cli.launch import Again, Launch, without
from tfzoo.cli.places import program, short
from tfzoo.slurm import queue
from tfzoo.slurm.resources import CLUSTER, Resources, Site, resources_of
from tfzoo.slurm.sbatch import check_sbatch, find_script
from tfzoo.slurm.sweep import names, points, told
from tfzoo.tracking.runs import Run, checked_name, fresh_id
from tfzoo.tracking.state import Circumstances
from tfzoo.tracking.submitted import Submitted

if TYPE_CHECKING:
    from tfzoo.cli.checked import CheckedExperiment

_ASKED = {
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


def _parser() -> Parser:
    parser = Parser(
        prog="tfzoo submit",
        description="Submit an experiment to SLURM, after checking it here. Beside these options: those of tfzoo fit, "
        "-c EXPERIMENT first of all.",
        allow_abbrev=False,
    )
    asked = parser.add_argument_group("what is asked for")
    for name, what in _ASKED.items():
        asked.add_argument(f"--{name}", help=what)
    asked.add_argument(
        "--sbatch",
        action="append",
        metavar="OPTION",
        help="any other of sbatch's: --sbatch=--exclusive",
    )
    asked.add_argument("--cluster", metavar="FILE", help=f"a site's defaults (${CLUSTER})")
    asked.add_argument("--script", help="another batch script")
    sweep = parser.add_argument_group("sweeps")
    sweep.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=A,B,C",
        help="one run for each value, and for each combination where repeated; with --sample also KEY=log(LOW,HIGH) "
        "and KEY=uniform(LOW,HIGH). --run_id names the sweep",
    )
    sweep.add_argument(
        "--points", metavar="FILE", help="one run for each line: csv, json lines, yaml"
    )
    sweep.add_argument("--sample", type=int, metavar="N", help="only so many points, at random")
    sweep.add_argument("--sample-seed", type=int, default=0, metavar="S", help="of the drawing (0)")
    sweep.add_argument(
        "--at-once", type=int, metavar="N", help="points that run at a time, at most"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--again",
        nargs="+",
        metavar="RUN",
        help="runs submitted before, as they were; they go on where they stand",
    )
    how.add_argument("--dry-run", action="store_true", help="print the sbatch line, and do nothing")
    how.add_argument("--wait", action="store_true", help="follow the job to its end")
    return parser


def submit(arguments: list[str]) -> None:
    """`tfzoo submit -c experiments/... --nodes 2 --gpus 4 --time 12:00:00`."""
    options, rest = _parser().parse_known_args(arguments)
    _check(options, rest)
    launches = _again(options, rest) if options.again else [_new(options, rest)]
    for launch in launches:
        line = launch.submission().line()
        if options.dry_run:
            # SLURM makes no folder for what a job prints, and loses the job without one.
            print(f"mkdir -p {shlex.quote(str(launch.folder))} && {line}")
            continue
        print(line, flush=True)
        jobs = launch.submit()
        _tell(launch, jobs)
    if options.wait and not options.dry_run:
        from tfzoo.cli.watch import watch

        watch([run for launch in launches for run in launch.runs])


def _check(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Raises ValueError for options that make no sense together."""
    sweeps = options.sweep or options.points
    if options.again and sweeps:
        raise ValueError("--again submits runs as they were: leave --sweep and --points out")
    for name in ("sample", "at_once"):
        value, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is not None and not sweeps:
            raise ValueError(f"{flag} is for sweeps: add --sweep KEY=A,B,C or --points FILE")
        if value is not None and value < 1:
            raise ValueError(f"{flag} must be at least 1, not {value}")
    given = {argument.partition("=")[0] for argument in rest}
    if not options.again and not given & {"-c", "--config", "--model", "--data"}:
        raise ValueError(
            "submit needs an experiment: tfzoo submit -c experiments/generation/shakespeare.yaml --time 2:00:00"
        )


def _asked(options: argparse.Namespace, base: Resources) -> Resources:
    said: dict[str, Any] = {name: getattr(options, name) for name in _ASKED}
    return resources_of(said | {"options": options.sbatch}, base)


def _new(options: argparse.Namespace, rest: list[str]) -> Launch:
    """A new run, or a new sweep, checked."""
    site = Site.read(options.cluster)
    resources = _asked(options, site.resources)
    script = find_script(options.script or site.script)
    found = []
    if options.sweep or options.points:
        found = points(options.sweep, options.points, options.sample, options.sample_seed)
        for key in {key for point in found for key in point.values}:
            if key in ("runs", "run_id", "experiment", "ckpt_path", "config"):
                raise ValueError(f"{key} cannot vary within a sweep")
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
    if not found:
        run = Run(home / id)
        _check_free([run])
        common = [*common, "--run_id", id]
        return Launch(
            resources,
            script,
            Path.cwd(),
            run.folder,
            common,
            [run],
            requeue=said.checkpoint is None,
        )
    sweep = home / "sweeps" / id
    if sweep.exists():
        raise ValueError(f"there is a sweep {short(sweep)} already: choose another --run_id")
    runs = [Run(home / name) for name in names(found, id)]
    _check_free(runs)
    return Launch(
        resources,
        script,
        Path.cwd(),
        sweep,
        common,
        runs,
        [point.values for point in found],
        flags,
        options.at_once,
        requeue=said.checkpoint is None,
    )


def _again(options: argparse.Namespace, rest: list[str]) -> list[Launch]:
    """Runs as they were submitted before, checked."""
    runs = [Run(Path(path).absolute()) for path in options.again]
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
        if _holds_checkpoints(run):
            arguments = without(arguments, "--ckpt_path")
        resources = _asked(options, resources_of(submitted.resources, site.resources))
        directory = Path(submitted.directory)
        if not directory.is_dir():
            raise FileNotFoundError(f"{run.folder} was submitted from {directory}, which is gone")
        with chdir(directory):
            said = _experiment(arguments, resources, "").said()
        requeue = said.checkpoint is None
        script = find_script(options.script or site.script or submitted.script)
        launches.append(
            Again(
                resources,
                script,
                directory,
                run.folder,
                arguments,
                [run],
                requeue=requeue,
                sweep=submitted.sweep,
            )
        )
    return launches


def _experiment(arguments: list[str], resources: Resources, point: str) -> CheckedExperiment:
    from tfzoo.cli.checked import CheckedExperiment  # and torch with it

    with _naming(point):
        return CheckedExperiment(arguments, resources)


class _naming:  # noqa: N801
    """Names the point of a sweep that a mistake is of."""

    def __init__(self, point: str) -> None:
        self.point = point

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from tfzoo.cli.mistakes import is_mistake, one_line

        if self.point and isinstance(error, Exception) and is_mistake(error):
            raise ValueError(f"the point {self.point}: {one_line(error)}") from error


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


def _holds_checkpoints(run: Run) -> bool:
    return run.checkpoints.is_dir() and any(run.checkpoints.iterdir())


def _progress(rows: list[Any]) -> Iterable[Any]:
    """Where a person waits for a long sweep to be checked."""
    if len(rows) < 10 or not sys.stderr.isatty():
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, "checking", console=Console(stderr=True), transient=True)


def _tell(launch: Launch, jobs: Sequence[str]) -> None:
    number = jobs[0].partition("_")[0]
    if launch.is_sweep:
        print(f"job {number}: {len(jobs)} points of the sweep {short(launch.folder)}")
        for run in launch.runs:
            print(f"  {short(run.folder)}")
        print(f"compare them with {program()} runs {short(launch.folder)}", flush=True)
    else:
        print(f"job {number}\nrun {short(launch.folder)}", flush=True)
