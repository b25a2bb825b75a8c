"""`tfzoo dashboard`: all runs of a folder in the browser."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path

from tfzoo.cli.apply import Parser
from tfzoo.tracking import dashboard as page
from tfzoo.tracking.table import scan

PORT = 7860
TRIED = 50
"""How many ports are tried where none is asked for."""

PATIENCE = 3.0
"""Seconds to wait for the runs to be read before the address is told: so many need no reloading of the page."""


def dashboard(arguments: list[str]) -> None:
    """`tfzoo dashboard [RUNS]`: curves laid over each other, runs, what differs in their configs, pictures, tables."""
    options = _parser().parse_args(arguments)
    if find_spec("trackio") is None:
        raise ValueError('the dashboard needs its extra: pip install "tfzoo[dashboard]"')
    scan(options.runs)  # whether there is such a folder
    with (
        _listening(options.host, options.port) as listening,
        tempfile.TemporaryDirectory(prefix="tfzoo-dashboard-", ignore_cleanup_errors=True) as place,
    ):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            _show(options.runs, Path(place), listening, options.browser)
        except KeyboardInterrupt:
            print(file=sys.stderr)  # Ctrl-C is how it ends


def _parser() -> Parser:
    parser = Parser(
        prog="tfzoo dashboard",
        description="Shows all runs of a folder in the browser, and follows them while they are written.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        nargs="?",
        type=Path,
        default=Path("runs"),
        help="folder of runs, of an experiment, a sweep or one run (default: runs)",
    )
    parser.add_argument(
        "--port", type=int, help=f"default: {PORT}, or the next one that is free; 0 for any"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="default: this machine alone; 0.0.0.0: whoever reaches it",
    )
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="only tell the address"
    )
    return parser


def _show(runs: Path, place: Path, listening: socket.socket, browser: bool) -> None:
    host, port = listening.getsockname()[:2]
    page.prepare(place)
    store = page.Store(runs, place)
    shown = f"[{host}]" if ":" in host else host
    here = ipaddress.ip_address(host).is_loopback
    # The middleware takes what stands before the first colon for the name, of [::1] too.
    names = {shown.partition(":")[0], "127.0.0.1", "localhost"}
    app = page.application(store, sorted(names) if here else ["*"])
    address = f"http://{shown}:{port}/"
    if not here:
        print(
            f"tfzoo: warning: whoever reaches this machine can see the runs at port {port}",
            file=sys.stderr,
        )
    with page.followed(store, PATIENCE):
        print(address, flush=True)
        if browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        page.serve(app, listening)


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens, so that whoever comes before the page is ready waits for it."""
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"--port {port} is none: it must be between 0 and 65535")
    ports = [port] if port is not None else range(PORT, PORT + TRIED)
    for one in ports:
        try:
            family, *_, place = socket.getaddrinfo(host, one, type=socket.SOCK_STREAM)[0]
            return socket.create_server(place[:2], family=family, backlog=128)
        except socket.gaierror as error:
            raise ValueError(f"--host {host} is no address of this machine: {error}") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ValueError(f"cannot listen on {host}, port {one}: {error.strerror}") from None
    if port is not None:
        raise ValueError(f"port {port} is in use: say another with --port, or none for a free one")
    raise ValueError(f"ports {PORT} to {PORT + TRIED - 1} are in use: say another with --port")


def _has_screen() -> bool:
    """Else a browser of the terminal would open, and take it."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
