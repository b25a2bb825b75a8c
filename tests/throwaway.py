"""A throw-away SLURM, as tests/slurm/conftest.py starts it, and what is asked of it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import forked

TFZOO = "import sys; from tfzoo.cli import main; sys.exit(main())"
SCRIPT = Path(__file__).parents[1] / "slurm" / "train.sbatch"


@dataclass
class Cluster:
    """How commands reach it.

    env: of every command.
    """

    env: dict[str, str]

    def call(self, *command: str | Path, cwd: Path | None = None, **env: str) -> str:
        """What a command that must succeed prints."""
        done = self.tried(*command, cwd=cwd, **env)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
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
            timeout=300,  # longer than SLURM itself waits for its controller
        )

    def forked(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """What a command of tfzoo comes to, without the time of its imports."""
        command = [sys.executable, "-c", TFZOO, *map(str, arguments)]
        return forked.run(
            command, env=self.env, cwd=cwd, capture_output=True, text=True, timeout=120
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

    def ended(self, number: str, seconds: float = 400) -> dict[str, str]:
        """A job when it is over, be it requeued meanwhile."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")

        def last() -> dict[str, str] | None:
            found = self.job(number)
            return found if found["JobState"] in over else None

        return self.wait(f"job {number}", last, seconds)  # type: ignore[return-value]
