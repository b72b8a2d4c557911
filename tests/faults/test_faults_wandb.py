"""Faults 29 and 41: a wandb that is down, slow or refuses, and a key that must stay a secret."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"


class _Refuses(BaseHTTPRequestHandler):
    """As wandb answers a key that it does not know."""

    def _answer(self) -> None:
        body = b'{"errors":[{"message":"user is not logged in"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        return None


class _Slow(_Refuses):
    """Takes a connection and says nothing."""

    def _answer(self) -> None:
        time.sleep(100)

    do_GET = do_POST = _answer  # noqa: N815


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Where wandb is to be found, by what is wrong with it."""
    running = {
        "slow": ThreadingHTTPServer(("127.0.0.1", 0), _Slow),
        "refuses": ThreadingHTTPServer(("127.0.0.1", 0), _Refuses),
    }
    for server in running.values():
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"down": "http://127.0.0.1:9"} | {
        name: f"http://127.0.0.1:{server.server_port}" for name, server in running.items()
    }
    for server in running.values():
        server.shutdown()
        server.server_close()


def of_this_place(root: Path) -> list[int]:
    """Processes, other than this one, that were started with the folder in their command line or live in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                words = (entry / "cmdline").read_bytes() + str((entry / "cwd").readlink()).encode()
                if str(root).encode() in words:
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_fault_29_41_training_does_not_notice_and_the_key_is_nowhere(work: Any, servers: dict[str, str]) -> None:
    """Three studies at once, each with another trouble, and every file, screen and command line is searched."""
    began = time.monotonic()
    processes = {}
    for name, url in servers.items():
        study = work.study(
            f"study: {name}\ntask: toy\nbase: {{sleep: 0.1, train: {{epochs: 1}}}}\nwandb: {{mode: online}}\n",
            f"{name}.yaml",
        )
        places = ("--runs-dir", f"{name}/runs", "--db", f"{name}/results.duckdb")
        processes[name] = work.begin(
            "run", study, *places, WANDB_API_KEY=KEY, WANDB_BASE_URL=url, WANDB_DIR=str(work.root)
        )
    seen = ""
    try:
        while any(process.poll() is None for process in processes.values()) and time.monotonic() - began < 100:
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen += entry.read_bytes().decode(errors="replace") if KEY.encode() in entry.read_bytes() else ""
                except OSError:
                    continue
            time.sleep(0.2)
        screens = {name: process.communicate(timeout=60)[0] for name, process in processes.items()}
    finally:
        for pid in of_this_place(work.root):
            os.kill(pid, signal.SIGKILL)
    assert not seen, "the key is in a command line"
    assert time.monotonic() - began < 90
    for name, process in processes.items():
        screen = screens[name]
        assert process.returncode == 0, screen
        assert screen.count("wandb") >= 1 and len([line for line in screen.splitlines() if "wandb" in line]) == 1, (
            screen
        )
        assert "complete  toy-" in screen
    listed = work.ablate("ls", "--json", "--runs-dir", "down/runs", "--db", "down/results.duckdb")
    assert [run["status"] for run in json.loads(listed.stdout)] == ["complete"]
    [root] = (work.root / "down/runs").glob("toy-*")
    shown = work.ablate("show", root.name, "--runs-dir", "down/runs", "--db", "down/results.duckdb", WANDB_API_KEY=KEY)
    report = work.ablate("report", "--runs-dir", "down/runs", "--db", "down/results.duckdb", WANDB_API_KEY=KEY)
    assert KEY not in "".join([*screens.values(), shown.stdout, shown.stderr, report.stdout, report.stderr])
    files = [path for path in work.root.rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
