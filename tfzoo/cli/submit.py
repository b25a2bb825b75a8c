"""`tfzoo submit`: an experiment, or a sweep of it, as a SLURM job, after everything was checked that can be."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from tfzoo.cli.apply import Parser
from tfzoo.cli.launch import Launch
from tfzoo.cli.launches import ASKED, again, new
from tfzoo.cli.places import program, short
from tfzoo.slurm.resources import CLUSTER


def _parser() -> Parser:
    parser = Parser(
        prog="tfzoo submit",
        description="Submit an experiment to SLURM, after checking it here. Beside these options: those of tfzoo fit, "
        "-c EXPERIMENT first of all.",
        allow_abbrev=False,
    )
    asked = parser.add_argument_group("what is asked for")
    for name, what in ASKED.items():
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
    launches = again(options, rest) if options.again else [new(options, rest)]
    for launch in launches:
        line = launch.submission().line()
        if options.dry_run:
            # SLURM makes no folder for what a job prints, and loses the job without one.
            _tell_dry(launch, line)
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


def _tell_dry(launch: Launch, line: str) -> None:
    """What would be submitted; of a sweep, its points as well."""
    # SLURM makes no folder for what a job prints, and loses the job without one.
    print(f"mkdir -p {shlex.quote(str(launch.folder))} && {line}")
    if launch.is_sweep:
        print(f"# after {short(launch.points_file)} was written, with {len(launch.runs)} points:")
    for run, flags in zip(launch.runs, launch.flags, strict=False):
        print(f"# {run.id}: {shlex.join(flags)}")


def _tell(launch: Launch, jobs: Sequence[str]) -> None:
    number = jobs[0].partition("_")[0]
    if launch.is_sweep:
        print(f"job {number}: {len(jobs)} points of the sweep {short(launch.folder)}")
        for run in launch.runs:
            print(f"  {short(run.folder)}")
        print(f"compare them with {program()} runs {short(launch.folder)}", flush=True)
    else:
        print(f"job {number}\nrun {short(launch.folder)}", flush=True)
