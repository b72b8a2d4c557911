from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
from ablate.runs.paths import RunPaths, RunsDir

MakeRun = Callable[..., RunPaths]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes the directory of a toy run; keywords are its configuration."""

    def make(
        name: str = "toy-aaaaaaaa", runs: str = "runs", digests: dict[str, str] | None = None, **config: Any
    ) -> RunPaths:
        identity = RunIdentity(name[-8:], name[-8:] * 8, name, "toy", 1, {}, digests or {}, 0.0)
        return ensure_run(RunsDir(tmp_path / runs), identity, RunConfig(config, "ablate run toy.yaml", {}))

    return make


@dataclass
class Stored:
    """A run as the server knows it."""

    entity: str
    project: str
    fields: dict[str, Any] = field(default_factory=dict)
    """What was said of it by name: `displayName`, `groupName`, `tags`, `config` …"""
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


class WandbServer(ThreadingHTTPServer):
    """As much of wandb's server as its client needs to send a run, and to go on with it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.runs: dict[str, Stored] = {}
        self.files: dict[str, bytes] = {}
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def query(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name == "Viewer":
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        project, entity = given.get("project") or "", given.get("entity") or "me"
        owner = {"id": "2", "name": project, "entity": {"id": "3", "name": entity}}
        if name == "RunResumeStatus":
            run = self.runs.get(given["name"])
            return {"model": owner | {"bucket": run and self._bucket(given["name"], run)}}
        if name == "UpsertBucket":
            run = self.runs.setdefault(given["name"], Stored(entity, project))
            run.fields |= {key: value for key, value in given.items() if value is not None}
            bucket = {"id": "4", "name": given["name"], "displayName": "x", "config": "{}", "project": owner}
            return {"upsertBucket": {"bucket": bucket | {"historyLineCount": len(run.history)}, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in given["files"]]
            return {"createRunFiles": {"runID": "4", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str, run: Stored) -> dict[str, Any]:
        tail = [json.dumps(row) for row in run.history[-1:]]
        return {
            "id": "4", "name": name, "displayName": run.fields.get("displayName"), "logLineCount": 0,
            "historyLineCount": len(run.history), "eventsLineCount": 0, "historyTail": json.dumps(tail),
            "eventsTail": "[]", "summaryMetrics": json.dumps(run.summary), "config": run.fields.get("config", "{}"),
            "tags": run.fields.get("tags") or [], "notes": run.fields.get("notes"), "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        run = self.runs[name]
        for file, part in (sent.get("files") or {}).items():
            rows = [json.loads(line) for line in part["content"]]
            if file == "wandb-history.jsonl":
                run.history[part["offset"] :] = rows
            elif file == "wandb-summary.json":
                run.summary = rows[-1]
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode")


class _Answers(BaseHTTPRequestHandler):
    server: WandbServer

    def _answer(self) -> None:
        self.server.requests += 1
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found: dict[str, Any] = {}
        if self.path == "/graphql":
            sent = json.loads(content)
            found = {"data": self.server.query(sent.get("operationName", ""), sent.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(content))
        elif self.path.startswith("/upload/"):
            self.server.files[self.path.removeprefix("/upload/")] = content
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        return None


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """wandb's client in every process is told to send there."""
    server = WandbServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567")
    yield server
    server.shutdown()
    server.server_close()
