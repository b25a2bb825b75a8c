"""What tests start as a fork is to them a process like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import forked
import pytest

pytestmark = pytest.mark.slow


def python(code: str, *arguments: str, **how) -> subprocess.CompletedProcess[str]:
    return forked.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, **how
    )


def test_streams_folder_environment_and_arguments_are_its_own(tmp_path):
    code = """
import os, sys
print(sys.stdin.read(), os.getcwd(), os.environ["ONE"], "HOME" in os.environ, sys.argv, __name__)
print("to the other", file=sys.stderr)
"""
    done = python(code, "x", "y", input="asked", cwd=tmp_path, env={"ONE": "1"})
    assert done.stdout == f"asked {tmp_path} 1 False ['-c', 'x', 'y'] __main__\n"
    assert (done.stderr, done.returncode) == ("to the other\n", 0)


@pytest.mark.parametrize(
    ("code", "returned", "told"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('a word')", 1, "a word\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import os; os._exit(75)", 75, ""),
        ("import atexit, os; atexit.register(os.write, 2, b'the end')", 0, "the end"),
        ("import gc, threading; assert gc.isenabled() and threading.active_count() == 1", 0, ""),
    ],
)
def test_it_ends_as_the_interpreter_does(code, returned, told):
    done = python(code)
    assert (done.returncode, done.stderr) == (returned, told)


def test_an_error_is_told_with_its_trace():
    done = python("1 / 0")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback ")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_it_has_its_number_and_takes_signals(tmp_path):
    file = tmp_path / "waits.py"
    file.write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))\n"
        "print(os.getpid(), __file__, signal.getsignal(signal.SIGINT).__name__, flush=True)\n"
        "time.sleep(60)\n"
    )
    for number, code in ((signal.SIGTERM, 3), (signal.SIGKILL, -9), (signal.SIGINT, -2)):
        command = [sys.executable, file]
        with forked.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            said = process.stdout.readline()
            assert said == f"{process.pid} {file} default_int_handler\n"
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
            process.send_signal(number)
            assert process.wait(timeout=30) == process.poll() == code


def test_two_live_side_by_side_and_are_ended_with_who_started_them():
    code = """
import forked, os, subprocess, sys
forked.IMPORTS = 'json'
sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
both = [forked.Popen(sleeping, stdout=subprocess.PIPE) for _ in range(2)]
for process in both:
    process.stdout.readline()
    print(process.pid)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    patience = time.monotonic() + 10
    for pid in map(int, done.stdout.split()):
        while os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            assert time.monotonic() < patience
            time.sleep(0.02)
