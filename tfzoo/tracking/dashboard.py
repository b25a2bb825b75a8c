"""trackio's page over a folder of runs.

Its database is made in a temporary folder when somebody looks, of what lies in the runs' folders, and kept up with them
while the page is open. So nothing of it can be stale, get lost, or be written where runs are only to be read, and two
dashboards of two folders never mix.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tfzoo.tracking.gathered import gathered, media_folders, name_of, stamp
from tfzoo.tracking.records import Record
from tfzoo.tracking.runs import Run
from tfzoo.tracking.table import scan

SECONDS = 5.0
"""How often the runs are looked through for something new."""

ORDER = ("train/loss", "train/*", "val/*", "test/*", "learning_rate/*", "epoch")
"""In which order the charts come."""


def prepare(place: Path) -> None:
    """Let trackio, which reads it once, when it is imported, keep its database in `place` and ask no server."""
    ours = ("TRACKIO_", "GRADIO_", "SPACE_", "OAUTH_", "OPENID_")
    for variable in [name for name in os.environ if name.startswith(ours) or name == "SYSTEM"]:
        del os.environ[variable]
    os.environ |= {"TRACKIO_DIR": str(place), "TRACKIO_STORAGE_MODE": "sqlite"}
    os.environ["TRACKIO_SQLITE_SYNCHRONOUS"] = "OFF"  # what a power cut takes is made again
    os.environ["TRACKIO_PLOT_ORDER"] = ",".join(ORDER)
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    }


class Store:
    """trackio's database of the runs under a folder.

    Args:
        root: a folder of runs, as `scan` takes it.
        place: trackio's folder, as `prepare` was told.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self.root = root
        self.place = place
        self.stamps: dict[str, Any] = {}
        self.shown: dict[str, dict[str, str]] = {}  # of each run its records, and their projects
        self.media: dict[str, list[Path]] = {}

    def sync(self, stop: threading.Event | None = None) -> None:
        """Bring the database to what the folders hold now; newest runs first."""
        runs = {name_of(run): run for run in scan(self.root)}
        for name in self.shown.keys() - runs.keys():
            self._replace(name, [])
            self._forget(name)
        newest = sorted(runs.items(), key=lambda pair: _changed(pair[1]), reverse=True)
        for name, run in newest:
            if stop is not None and stop.is_set():
                return
            try:
                now = stamp(run)
                if self.stamps.get(name) == now:
                    continue
                self._link(name, run)
                self._replace(name, gathered(run))
                self.stamps[name] = now
            except OSError:
                continue  # removed or unreadable just now: looked at again next time
            except (
                Exception
            ) as error:  # of one run, whatever lies in its files: the others are still shown
                self.stamps[name] = now
                print(f"tfzoo: warning: {name} cannot be shown: {error}", file=sys.stderr)

    def folders(self) -> tuple[Path, ...]:
        """Whose files a browser may see."""
        return tuple(folder for folders in list(self.media.values()) for folder in folders)

    def _link(self, name: str, run: Run) -> None:
        """Pictures stay where they are: trackio looks for them under media/."""
        link = self.place / "media" / name
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(run.folder.resolve())
        self.media[name] = [folder.resolve() for folder in media_folders(run)]

    def _replace(self, name: str, records: list[Record]) -> None:
        from trackio.fragments import import_records

        before = self.shown.get(name, {})
        now = {record["log_id"]: record["project"] for record in records}
        fresh = [record for record in records if record["log_id"] not in before]
        if fresh:
            fresh[0]["config"] = fresh[0]["config"] or records[0]["config"]
            import_records(fresh)
        self._delete({log: project for log, project in before.items() if log not in now})
        self.shown[name] = now

    def _delete(self, records: dict[str, str]) -> None:
        """What a resumed run has taken back; trackio itself can only delete a whole run."""
        from trackio.sqlite_storage import SQLiteStorage

        for project in set(records.values()):
            ours = [(log,) for log, said in records.items() if said == project]
            file = SQLiteStorage.get_project_db_path(project)
            with sqlite3.connect(file, timeout=30) as connection:
                connection.executemany("DELETE FROM metrics WHERE log_id = ?", ours)
            connection.close()

    def _forget(self, name: str) -> None:
        (self.place / "media" / name).unlink(missing_ok=True)
        for known in (self.stamps, self.shown, self.media):
            known.pop(name, None)


def _changed(run: Run) -> float:
    return max(
        (f.stat().st_mtime for f in (run.metrics_file, run.config_file) if f.exists()), default=0.0
    )


def application(store: Store, hosts: Iterable[str]) -> Any:
    """trackio's page and what it asks for, to be read only.

    Nothing is left that writes, or asks a server elsewhere: so its write token opens nothing, and is told to nobody.
    hosts: the names under which it may be asked for; "*" for any. A page of another site that had its name point here
    would be refused.
    """
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from trackio import server

    app, _ = server.build_starlette_app_only(frontend_dir=str(_frontend()))
    asked = app.state.api_registry.items()
    app.state.api_registry = {
        name: function
        for name, function in asked
        if name not in server.WRITE_APIS and "registr" not in name
    }
    app.router.routes[:] = [
        route
        for route in app.router.routes
        if not route.path.startswith(("/oauth", "/login", "/api/upload", "/artifact_blob"))
    ]
    app.state.allowed_file_roots = _Folders([Path(server.utils.TRACKIO_LOGO_DIR).resolve()], store)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


class _Folders:
    """The folders whose files are served, which grow with the runs."""

    def __init__(self, fixed: list[Path], store: Store) -> None:
        self.fixed = fixed
        self.store = store

    def __iter__(self) -> Iterator[Path]:
        return iter([*self.fixed, *self.store.folders()])


def _frontend() -> Path:
    """The page that comes with trackio, whatever other one its user has chosen elsewhere."""
    from trackio.frontend_config import BUNDLED_FRONTEND_DIR

    return BUNDLED_FRONTEND_DIR


def serve(app: Any, listening: socket.socket) -> None:
    """Answer at a socket until SIGINT or SIGTERM ends it, which is then raised again."""
    import uvicorn

    settings = uvicorn.Config(
        app, log_level="error", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    uvicorn.Server(settings).run(sockets=[listening])


@contextmanager
def followed(store: Store, patience: float) -> Iterator[None]:
    """Keep the store up with the runs meanwhile; begins when all are in it, or after so many seconds."""
    stop, first = threading.Event(), threading.Event()

    def follow() -> None:
        while True:
            # The folder of all runs may be away for a moment, and the database in use.
            with suppress(OSError, sqlite3.Error):
                store.sync(stop)
            first.set()
            if stop.wait(SECONDS):
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    first.wait(patience)
    try:
        yield
    finally:
        stop.set()
        follower.join(timeout=10)
