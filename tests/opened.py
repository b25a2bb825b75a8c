"""`tfzoo dashboard` in a process of its own, for the tests that ask it and those that look at it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Dashboard:
    """`tfzoo dashboard` in a process of its own, which nothing outside of this machine answers."""

    def __init__(self, runs: Path, *arguments: str) -> None:
        self.runs = runs
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO")}
        self.net = socket.create_server(("127.0.0.1", 0))  # in which a call is caught
        proxy = f"http://127.0.0.1:{self.net.getsockname()[1]}"
        environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
        environment |= {
            "NO_PROXY": "",
            "HF_TOKEN": "hf_"
            + 34 * "a",  # of whoever has one, trackio's client asks a server the name
            "TRACKIO_SPACE_ID": "somebody/else",
            "TRACKIO_WRITE_TOKEN": "known-to-all",
            "DISPLAY": "",
            "TMPDIR": str(runs.parent),
        }
        code = (
            "import sys; from tfzoo.cli import main; sys.exit(main(['dashboard', *sys.argv[1:]]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(runs), "--no-browser", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = self.process.stdout.readline()
        self.address = self.said.strip().rstrip("/")
        self.port = int(self.address.rpartition(":")[2])

    def ask(self, name: str, **arguments: Any) -> Any:
        body = json.dumps(arguments).encode()
        with urllib.request.urlopen(self.request(f"/api/{name}", body), timeout=30) as answer:
            return json.load(answer)["data"]

    def request(
        self, path: str, body: bytes | None = None, **headers: str
    ) -> urllib.request.Request:
        return urllib.request.Request(self.address + path, body, headers)

    def status(self, path: str, body: bytes | None = None, **headers: str) -> int:
        try:
            with urllib.request.urlopen(self.request(path, body, **headers), timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def called(self) -> bool:
        """Whether it has asked another machine for anything."""
        self.net.settimeout(0.1)
        try:
            self.net.accept()[0].close()
        except TimeoutError:
            return False
        return True

    def names(self) -> set[str]:
        return {run["name"] for run in self.ask("get_runs_for_project", project="tfzoo")}

    def losses(self, run: str) -> dict[int, float]:
        logs = self.ask("get_logs", project="tfzoo", run_id=run)
        return {log["step"]: log["loss"] for log in logs if "loss" in log}

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.net.close()

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """The exit code, and what was said after the address on both outputs."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err
