"""The line that submits a job, and what sbatch answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import tfzoo

PROGRAM = "TFZOO"
"""Environment variable: the tfzoo that a job calls; the batch script reads it."""
SCRIPT = Path("slurm") / "train.sbatch"
PATIENCE = 60
"""Seconds that sbatch may take: a busy controller lets it wait."""


@dataclass(frozen=True)
class Submission:
    """A job as it is asked for.

    options: of sbatch; script: the batch script; arguments: of `tfzoo fit`; folder: where the job works.
    """

    options: tuple[str, ...]
    script: Path
    arguments: tuple[str, ...]
    folder: Path

    def command(self) -> list[str]:
        return ["sbatch", "--parsable", *self.options, str(self.script), *self.arguments]

    def line(self) -> str:
        """For a shell, as it is submitted here."""
        return f"{PROGRAM}={shlex.quote(program())} {shlex.join(self.command())}"

    def submit(self) -> str:
        """The job's number. Raises OSError where there is no sbatch, ValueError with sbatch's own refusal."""
        check_sbatch()
        try:
            done = subprocess.run(
                self.command(),
                env=_environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise OSError(
                f"sbatch has not answered for {PATIENCE} s: see with squeue whether the job is there"
            ) from None
        if done.returncode != 0:
            raise ValueError(f"sbatch refused the job: {_reason(done.stderr)}")
        # With its cluster where there are several; a site may print more before it.
        numbers = re.findall(r"^(\d+)(?:;.*)?$", done.stdout, flags=re.M)
        if not numbers:
            raise ValueError(f"sbatch answered without a job's number: {done.stdout.strip()!r}")
        if told := done.stderr.strip():
            print(told, file=sys.stderr)
        return numbers[-1]


def check_sbatch() -> None:
    """Raises OSError where there is no SLURM to submit to."""
    if shutil.which("sbatch") is None:
        raise OSError("there is no sbatch here: submit from a login node of a SLURM cluster")


def find_script(said: str | Path | None) -> Path:
    """The batch script: the one that is said, that of this repository, or the one installed with the package.

    Raises FileNotFoundError where it is not there.
    """
    if said is not None:
        script = Path(said).expanduser().absolute()
        if not script.is_file():
            raise FileNotFoundError(f"there is no batch script {said}")
        return script
    beside = Path(tfzoo.__file__).parents[1]
    # Of an environment, of a user (pip --user), of a folder (pip --target).
    roots = (sysconfig.get_path("data"), sys.prefix, site.getuserbase(), beside)
    places = [beside / SCRIPT, *(Path(root) / "share/tfzoo" / SCRIPT.name for root in roots)]
    for script in places:
        if script.is_file():
            return script
    raise FileNotFoundError(
        f"there is no batch script at {places[0]} or {places[1]}: name one with --script"
    )


def program() -> str:
    """The absolute path of the tfzoo that jobs call: $TFZOO, else that of this environment."""
    said = os.environ.get(PROGRAM)
    beside = Path(sys.executable).with_name("tfzoo")
    found = said or (str(beside) if beside.exists() else None) or shutil.which("tfzoo")
    return os.path.abspath(found) if found and os.sep in found else found or "tfzoo"  # noqa: PTH100


def outside_of_a_job() -> dict[str, str]:
    """The environment without what SLURM told the job that this may run in: another job would take it for its own."""
    if "SLURM_JOB_ID" not in os.environ:
        return dict(os.environ)
    kept = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
    return {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k in kept}


def _environment() -> dict[str, str]:
    told = outside_of_a_job() | {PROGRAM: program()}
    told.pop("TFZOO_RUN_ID", None)
    return told


def _reason(stderr: str) -> str:
    lines = [re.sub(r"^sbatch: (error: )?", "", line).strip() for line in stderr.splitlines()]
    told = [line for line in lines if line]
    return "; ".join(dict.fromkeys(told)) or "without a word"
