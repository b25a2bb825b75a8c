"""A real SLURM of two nodes on this machine, for the tests of this folder; its jobs run the project's own script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "slurm" / "train.sbatch"
CONTROL = Path(__file__).with_name("cluster.sh")
REQUIRED = "TFZOO_REQUIRE_SLURM"
"""Environment variable: where it is 1, as in .ci/run, a cluster that cannot be had is a failure."""

PORT = "TFZOO_SLURM_PORT"
"""Environment variable: the first of ten ports for each cluster, where two test at once on a machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.slurm)


@dataclass
class Cluster:
    """How commands reach it.

    env: of every command.
    """

    env: dict[str, str]

    def call(self, *command: str | Path, cwd: Path | None = None, **env: str) -> str:
        """What a command that must succeed prints."""
        done = self.tried(*command, cwd=cwd, **env)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def tried(
        self, *command: str | Path, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            env=self.env | env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def tfzoo(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        return self.call(self.env["TFZOO"], *arguments, cwd=cwd)

    def job(self, number: str) -> dict[str, str]:
        """What SLURM says of a job."""
        found = self.call("scontrol", "--oneliner", "show", "job", number)
        return dict(re.findall(r"(\w+)=(\S*)", found.splitlines()[-1]))

    def wait(
        self, what: str, until: Callable[[], object], seconds: float = 120, every: float = 0.3
    ) -> object:
        patience = time.monotonic() + seconds
        while not (found := until()):
            assert time.monotonic() < patience, f"waited {seconds:.0f} s for {what}"
            time.sleep(every)
        return found

    def ended(self, number: str, seconds: float = 180) -> dict[str, str]:
        """A job when it is over, be it requeued meanwhile."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")

        def last() -> dict[str, str] | None:
            found = self.job(number)
            return found if found["JobState"] in over else None

        return self.wait(f"job {number}", last, seconds)  # type: ignore[return-value]


def _missing() -> str | None:
    """Why no cluster can be had here; None where one can."""
    if os.geteuid() != 0:
        return "a throw-away SLURM wants root"
    path = os.environ["PATH"] + os.pathsep + os.pathsep.join(("/usr/sbin", "/sbin"))
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program, path=path) is None:
            return f"no {program}: tests/slurm/cluster.sh install gets it on Debian"
    return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Cluster]:
    if (reason := _missing()) is not None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    number = int(re.sub(r"\D", "", worker_id) or 0)
    place = {
        "SLURM_LOCAL_DIR": str(folder),
        "SLURM_LOCAL_PORT": str(int(os.environ.get(PORT) or 26817) + 10 * number),
        "SLURM_LOCAL_GPUS": "2",
        "SLURM_LOCAL_CPUS": "8",
    }
    # A job of somebody's cluster may be running these tests: nothing of it must be seen.
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
    program = folder / "tfzoo"
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c "
        "'import sys; from tfzoo.cli import main; sys.exit(main())' \"$@\"\n"
    )
    program.chmod(0o755)
    env = outside | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "TFZOO": str(program),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
    }

    def control(what: str) -> None:
        subprocess.run([CONTROL, what], env=outside | place, check=True, timeout=120)

    control("start")
    try:
        yield Cluster(env)
    finally:
        control("stop")
