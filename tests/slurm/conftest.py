"""A real SLURM of two nodes on this machine, for the tests of this folder; its jobs run the project's own script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from throwaway import TFZOO, Cluster

ROOT = Path(__file__).parents[2]
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
def cluster(worker_id: str) -> Iterator[Cluster]:
    if (reason := _missing()) is not None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    # munge wants every folder above its socket open to all, which those of pytest are not.
    folder = Path(tempfile.mkdtemp(prefix="tfzoo-slurm-"))
    folder.chmod(0o755)
    number = int(re.sub(r"\D", "", worker_id) or 0)
    place = {
        "SLURM_LOCAL_DIR": str(folder / "slurm"),
        "SLURM_LOCAL_PORT": str(int(os.environ.get(PORT) or 26817) + 10 * number),
        "SLURM_LOCAL_GPUS": "2",
        "SLURM_LOCAL_CPUS": "8",
    }
    # A job of somebody's cluster may be running these tests: nothing of it must be seen.
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
    program = folder / "tfzoo"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{TFZOO}' \"$@\"\n")
    program.chmod(0o755)
    env = outside | {
        "SLURM_CONF": str(folder / "slurm/slurm.conf"),
        "TFZOO": str(program),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",  # the disasters are there
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
        shutil.rmtree(folder, ignore_errors=True)
