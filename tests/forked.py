"""Processes of `python -c CODE ...` and `python FILE ...` without their seconds of imports: forks of one that has them.

`Popen` and `run` are those of subprocess, for such command lines alone. What they start is a process of its own in all
that a test can see: its number, signals, streams, environment, working directory and exit code, and the interpreter's
usual end. Only what is decided before or while tfzoo is imported (variables that Python or a library reads then) is as
in the process that was forked, in which nothing has been used: a test that is about that, about time or about the real
command takes subprocess.

Run as a program this is the process that is forked.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

IMPORTS = "tfzoo.cli.experiment"
"""What forks need not import."""

MOST = 1 << 20
"""Bytes of a request, the environment most of them."""


@cache
def asking(pid: int) -> socket.socket:
    """Where a process of this number asks for forks of the server that it starts here, and that ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
    subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno()), IMPORTS],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # threads do not survive a fork
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    return ours


class Popen(subprocess.Popen):
    """subprocess.Popen of a fork, which may be told streams, working directory and environment."""

    def _execute_child(self, *arguments: Any) -> None:
        signature = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
        asked = signature.bind(self, *arguments).arguments
        for name in ("preexec_fn", "shell", "start_new_session", "pass_fds"):
            assert not asked[name], f"{name} is not for forks"
        program, *command = map(os.fspath, asked["args"])
        assert program == sys.executable, f"{program} is not for forks"
        env = os.environ if asked["env"] is None else asked["env"]
        request = {"command": command, "cwd": str(asked["cwd"] or Path.cwd()), "env": dict(env)}
        told = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [number if fd == -1 else fd for number, fd in enumerate(told)]
        self._ended, theirs = socket.socketpair()
        with theirs:
            fds = [theirs.fileno(), *streams]
            socket.send_fds(asking(os.getpid()), [json.dumps(request).encode()], fds)
        self.pid = self._number()
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in pipes))  # type: ignore[attr-defined]

    def _number(self) -> int:
        """What the server says next of this process: its number, or its status when it has ended."""
        said = self._ended.recv(8, socket.MSG_WAITALL)
        if len(said) < 8:
            raise ChildProcessError("the server of forks, or what waits for this one, has ended")
        return int.from_bytes(said, "big")

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        self._ended.setblocking(not wait_flags & os.WNOHANG)
        try:
            return self.pid, self._number()
        except BlockingIOError:
            return 0, 0

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def run(
    command: Any, *, input: Any = None, timeout: float | None = None, **how: Any
) -> subprocess.CompletedProcess:
    """subprocess.run of a fork."""
    check = how.pop("check", False)
    if how.pop("capture_output", False):
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        how["stdin"] = subprocess.PIPE
    with Popen(command, **how) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def served(asked: socket.socket) -> list[str]:
    """Serves until nobody asks any more; returns in the forks, with the command of each."""
    while True:
        message, fds, *_ = socket.recv_fds(asked, MOST, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            os.killpg(0, signal.SIGKILL)  # what was left running
        if os.fork() == 0:
            asked.close()
            return begun(json.loads(message), *fds)
        for fd in fds:
            os.close(fd)


def begun(request: dict[str, Any], told: int, *streams: int) -> list[str]:
    """Returns in a process for this request; the one that waits for it goes no further than here."""
    if child := os.fork():
        for fd in streams:
            os.close(fd)  # their other ends wait for the last who holds them
        os.write(told, child.to_bytes(8, "big"))
        _, status = os.waitpid(child, 0)
        with suppress(BrokenPipeError):
            os.write(told, status.to_bytes(8, "big"))
        os._exit(0)
    os.close(told)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    # As from a terminal, be the tests themselves in the background, where a shell lets interrupts be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    gc.enable()
    return request["command"]


def main() -> None:
    """Imports, serves, and is in each fork the program that was asked for."""
    gc.disable()
    number, imports = sys.argv[1:]
    import_module(imports)
    gc.freeze()  # or each fork would copy what its collector looks at
    name, *arguments = served(socket.socket(fileno=int(number)))
    inside = "" if name == "-c" else str(Path(name).parent)
    code = arguments.pop(0) if name == "-c" else Path(name).read_text()
    places = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = dict.fromkeys([inside, *places])
    sys.argv = [name, *arguments]
    module = sys.modules["__main__"] = ModuleType("__main__")
    if name != "-c":
        module.__file__ = name
    exec(compile(code, "<string>" if name == "-c" else name, "exec"), vars(module))


if __name__ == "__main__":
    main()
