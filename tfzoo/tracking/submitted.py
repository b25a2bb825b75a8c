"""submission.json: what a run was submitted to SLURM with; whoever submits it again needs no more."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tfzoo.tracking.runs import Run, write_whole


def submission_file(run: Run) -> Path:
    return run.folder / "submission.json"


@dataclass(frozen=True)
class Submitted:
    """A run's last submission.

    job: SLURM's number, `12` or `12_3`, None in the moment before sbatch has answered; submitted: when, ISO 8601;
    directory: where from; options: of sbatch; resources: what they were made from; script: the batch script;
    arguments: of `tfzoo fit`; comment: what SLURM knows the job by; sweep: {"id", "index", "point"} of a point.
    """

    job: str | None
    submitted: str
    directory: str
    options: list[str]
    resources: dict[str, Any]
    script: str
    arguments: list[str]
    comment: str = ""
    sweep: dict[str, Any] | None = None

    @classmethod
    def of(cls, run: Run) -> Submitted | None:
        """What a run's folder says; None where it was never submitted, or somebody damaged the file."""
        try:
            found = cls(**json.loads(submission_file(run).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return found if found._is_sound() else None

    def _is_sound(self) -> bool:
        """Whether all is of its kind: a person may have written it."""
        texts = (self.submitted, self.directory, self.script, self.comment, self.job or "")
        lists = (self.options, self.arguments)
        return (
            all(isinstance(text, str) for text in texts)
            and all(
                isinstance(some, list) and all(isinstance(one, str) for one in some)
                for some in lists
            )
            and isinstance(self.resources, dict)
            and isinstance(self.sweep or {}, dict)
        )

    def write(self, run: Run) -> None:
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        write_whole(submission_file(run), f"{text}\n".encode())

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return seconds(self.submitted)

    @property
    def output(self) -> Path | None:
        """Where SLURM writes what the job prints."""
        pattern = next((o.partition("=")[2] for o in self.options if o.startswith("--output=")), "")
        if not pattern or self.job is None:
            return None
        number, _, task = self.job.partition("_")
        written = {"%%": "%", "%j": number, "%A": number, "%a": task}
        return Path(re.sub("%[%jAa]", lambda found: written[found[0]], pattern))

    def error(self) -> str | None:
        """The last mistake that the job told, in a line of its own."""
        try:
            with (self.output or Path()).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - (1 << 14)))
                end = file.read().decode("utf-8", "replace")
        except OSError:
            return None
        told = re.findall(r"^(?:\d+: )?tfzoo: error: (.*)", end, flags=re.M)
        return told[-1] if told else None


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def seconds(time: Any) -> float:
    """Seconds since 1970 of a time as ISO 8601; 0 where it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
