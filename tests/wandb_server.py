"""A small W&B server on this machine: it answers what wandb asks and keeps what it is sent.

GraphQL for runs, files and artifacts; file_stream for history, summary and events; PUT for files.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "a" * 40
ENTITY = "somebody"


@dataclass
class Received:
    """A run as the server knows it; history is what W&B draws: a row a step, the later ones of a step added to it."""

    id: str
    said: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    @property
    def config(self) -> dict[str, Any]:
        return {key: told["value"] for key, told in json.loads(self.said["config"]).items()}

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.get("wandb-history.jsonl", [])]


class WandbServer:
    """Of one entity; `runs` by id, `views` by name, and the `operations` that were asked for."""

    def __init__(self) -> None:
        self.runs: dict[str, Received] = {}
        self.views: list[dict[str, Any]] = []
        self.operations: list[str] = []
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()
        self.http = _Http(("127.0.0.1", 0), _handler(self))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process is told, to take this for W&B."""
        return {
            "WANDB_BASE_URL": self.address,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, id: str) -> Received:
        return self.runs.setdefault(id, Received(id))

    def answer(self, query: str, said: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL operation."""
        named = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = named[1] if named else ""
        self.operations.append(name)
        answer = getattr(self, f"_{name}", None)
        return answer(said) if answer else {}

    def _Viewer(self, said: Any) -> dict[str, Any]:  # noqa: N802
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": teams}
        return {"viewer": viewer}

    _GetDefaultEntity = _Viewer

    def _UpsertBucket(self, said: Any) -> dict[str, Any]:  # noqa: N802
        name = said.get("name") or said["id"].removeprefix("bucket-")
        is_new = name not in self.runs
        run = self.run(name)
        run.said |= {key: value for key, value in said.items() if value is not None}
        if said.get("summaryMetrics"):
            run.summary |= json.loads(said["summaryMetrics"])
        bucket = {
            "id": f"bucket-{name}",
            "name": name,
            "displayName": run.said.get("displayName"),
            "description": "",
            "config": run.said.get("config", "{}"),
            "sweepName": "",
            "historyLineCount": len(run.lines.get("wandb-history.jsonl", [])),
            "project": {
                "id": "p",
                "name": run.said.get("project"),
                "entity": {"id": "e", "name": ENTITY},
            },
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _RunResumeStatus(self, said: Any) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(said["name"])
        model = {"id": "p", "name": said["project"], "entity": {"id": "e", "name": ENTITY}}
        if run is None:
            return {"model": {**model, "bucket": None}}
        lines = {
            what: run.lines.get(file, [])
            for what, file in (
                ("history", "wandb-history.jsonl"),
                ("events", "wandb-events.jsonl"),
                ("log", "output.log"),
            )
        }
        bucket = {
            "id": f"bucket-{run.id}",
            "name": run.id,
            "displayName": run.said.get("displayName"),
            "summaryMetrics": json.dumps(run.summary),
            "config": run.said.get("config", "{}"),
            "tags": run.said.get("tags") or [],
            "notes": run.said.get("notes"),
            "wandbConfig": json.dumps({"t": 1}),
            **{f"{what}LineCount": len(content) for what, content in lines.items()},
            "historyTail": json.dumps(lines["history"][-1:]),
            "eventsTail": json.dumps(lines["events"][-1:]),
        }
        return {"model": {**model, "bucket": bucket}}

    def _CreateRunFiles(self, said: Any) -> dict[str, Any]:  # noqa: N802
        files = [
            {"name": name, "uploadUrl": f"{self.address}/put/run/{said['run']}/{name}"}
            for name in said["files"]
        ]
        return {
            "createRunFiles": {
                "runID": f"bucket-{said['run']}",
                "uploadHeaders": [],
                "files": files,
            }
        }

    def _ArtifactType(self, said: Any) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifact": None}}  # none of that name and version so far

    def _CreateArtifact(self, said: Any) -> dict[str, Any]:  # noqa: N802
        said = said.get("input", said)
        id = f"artifact-{len(self.artifacts)}"
        known = next((a for a in self.artifacts.values() if a["digest"] == said["digest"]), None)
        if known is None:
            aliases = [alias["alias"] for alias in said.get("aliases") or []]
            known = self.artifacts[id] = {**said, "id": id, "files": {}, "aliases": aliases}
            self.run(said["runName"]).artifacts.append(known)
        name = said.get("artifactCollectionName") or "x"
        sequence = {"id": "s", "latestArtifact": {"id": known["id"], "versionIndex": 0}}
        state = "COMMITTED" if "manifest" in known else "PENDING"
        artifact = {
            "id": known["id"],
            "state": state,
            "artifactSequence": sequence | {"name": name},
        }
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, said: Any) -> dict[str, Any]:  # noqa: N802
        said = said.get("input", said)
        place = f"artifact/{said['artifactID']}/{said['name']}"
        file = {"id": "f", "name": said["name"], "displayName": said["name"], "uploadHeaders": []}
        file |= {"uploadUrl": f"{self.address}/put/{place}" if said["includeUpload"] else None}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    _UpdateArtifactManifest = _CreateArtifactManifest

    def _CreateArtifactFiles(self, said: Any) -> dict[str, Any]:  # noqa: N802
        edges = []
        for file in said["input"]["artifactFiles"] if "input" in said else said["artifactFiles"]:
            place = f"artifact/{file['artifactID']}/{file['name']}"
            node = {
                "id": "f",
                "name": file["name"],
                "displayName": file["name"],
                "uploadUrl": f"{self.address}/put/{place}",
                "uploadHeaders": [],
                "storagePath": place,
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, said: Any) -> dict[str, Any]:  # noqa: N802
        self.artifacts[said["artifactID"]]["manifest"] = True
        return {"commitArtifact": {"artifact": {"id": said["artifactID"], "digest": "d"}}}

    def _UpsertView2(self, said: Any) -> dict[str, Any]:  # noqa: N802
        self.views.append({**said, "spec": json.loads(said["spec"])})
        view = {"id": f"view-{len(self.views)}", "name": said["name"]}
        return {"upsertView": {"view": view, "inserted": True}}

    def stream(self, id: str, sent: dict[str, Any]) -> None:
        """A part of a run's lines, at the place that it names; what is there is overwritten."""
        run = self.run(id)
        for name, part in (sent.get("files") or {}).items():
            if name == "wandb-summary.json":
                for line in part["content"]:
                    run.summary = json.loads(line)
                continue
            lines, place = run.lines.setdefault(name, []), part["offset"]
            lines[place : place + len(part["content"])] = part["content"]
        run.complete = bool(sent.get("complete"))

    def put(self, place: str, content: bytes) -> None:
        kind, id, name = place.split("/", 2)
        kept = self.run(id).files if kind == "run" else self.artifacts[id]["files"]
        kept[name] = content


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    errors: list[str] = []  # noqa: RUF012

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news; a question that could not be answered is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.errors.append(traceback.format_exc())


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _content(self) -> bytes:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(content) if "gzip" in self.headers.get("Content-Encoding", "") else content  # fmt: skip

        def _send(self, told: Any) -> None:
            content = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            content = self._content()
            with server.lock:
                if self.path == "/graphql":
                    asked = json.loads(content)
                    said = asked.get("variables") or {}
                    self._send({"data": server.answer(asked["query"], said)})
                elif found := re.search(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                    server.stream(found[1], json.loads(content))
                    self._send({"exitcode": None, "limits": {}})
                else:
                    self._send({})

        def do_PUT(self) -> None:
            content = self._content()
            with server.lock:
                server.put(self.path.removeprefix("/put/"), content)
            self._send({})

        def do_GET(self) -> None:
            self._send({})

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[WandbServer]:
    server = WandbServer()
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
