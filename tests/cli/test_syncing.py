"""`ablate wandb sync`, with the real wandb: what it writes is read back from wandb's own files."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ablate.engine import machine, mirror_sync
from ablate.external.wandb_file import Session, read_session
from ablate.runs.paths import RunsDir

pytestmark = pytest.mark.slow

STUDY = """\
study: toys
task: toy
base: {train: {epochs: 2}}
grid: {train.lr: [1e-1, 1e-2]}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a study without a mirror was trained, and one whose run diverged."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "toys.yaml").write_text(STUDY)
    (folder / "bad.yaml").write_text("study: bad\ntask: toy\nbase: {trouble: {kind: nan, step: 3}}\n")
    for study, code in (("toys", 0), ("bad", 1)):
        command = [sys.executable, "-c", "from ablate.cli import main; main()", "run", f"{study}.yaml"]
        assert subprocess.run(command, cwd=folder, capture_output=True, timeout=100, check=False).returncode == code
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to work in."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def read_back(folder: Path) -> dict[str, Session]:
    """By run id; a run that is there twice fails."""
    found = [read_session(path) for path in sorted(folder.rglob("run-*.wandb"))]
    assert len({session.run_id for session in found}) == len(found)
    return {session.run_id: session for session in found}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine where nobody has logged in."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def test_runs_that_had_no_mirror_are_written_once_and_come_back_by_import(
    here: Any, no_account: None, place: Path
) -> None:
    """A whole run and a crashed one of a study without `wandb:`; once more changes no byte; a note changes its run."""
    said = here("wandb", "sync")
    assert (said.returncode, said.stdout) == (0, "") and "no study here has a mirror" in said.stderr
    planned = here("wandb", "sync", "--all", "--dry-run")
    assert [line.split()[0] for line in planned.stdout.splitlines()] == ["send"] * 3
    assert not (place / "out").exists()
    assert here("wandb", "sync", "status=failed", "--dry-run").stdout.count("send ") == 1
    assert here("wandb", "sync", "study=toys", "lr=1e-1", "--dry-run").stdout.count("send ") == 1

    written = here("wandb", "sync", "toys", "bad", "--offline", "out")
    assert written.returncode == 0, written.stderr
    assert [line.split()[0] for line in written.stdout.splitlines()] == ["written"] * 3
    found = read_back(place / "out")
    assert {session.group for session in found.values()} == {"toys", "bad"}
    [crashed] = [session for session in found.values() if session.group == "bad"]
    assert (crashed.exit_code, crashed.summary["state"], crashed.summary["reason"]) == (1, "failed", "diverged")
    assert [row["train/step"] for _, row in crashed.history] == [1], "the first, and every tenth"
    whole = [session for session in found.values() if session.group == "toys"]
    assert {session.config["train"]["lr"] for session in whole} == {0.1, 0.01}
    assert all(session.exit_code == 0 and session.summary["val/full/AbsRel"] > 0 for session in whole)

    before = digests(place / "out")
    again = here("wandb", "sync", "toys", "bad", "--offline", "out")
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["same"] * 3
    assert digests(place / "out") == before
    assert here("note", whole[0].run_id, "it was cold").returncode == 0
    changed = here("wandb", "sync", "toys", "bad", "--offline", "out")
    assert sorted(line.split()[0] for line in changed.stdout.splitlines()) == ["same", "same", "written"]
    after = read_back(place / "out")
    assert after[whole[0].run_id].notes == "it was cold"
    assert [numbers(after[key]) for key in found] == [numbers(found[key]) for key in found]
    same = {name for name, digest in before.items() if digests(place / "out").get(name) == digest}
    assert {name for name in before if whole[0].run_id not in name} == same

    assert here("import", "wandb", "out", "--study", "back").returncode == 0
    listed = json.loads(here("ls", "--json").stdout)
    for name in (run["name"] for run in listed if run["study"] == "toys"):
        [copy] = [run["name"] for run in listed if name in run["name"] and run["name"] != name]
        ours, theirs = (measured(json.loads(here("show", each, "--json").stdout)) for each in (name, copy))
        assert ours == theirs != []
    assert here("wandb", "sync", "back", "--dry-run").stdout.count("it was imported from wandb") == 3


def numbers(session: Session) -> list[tuple[int, dict[str, Any]]]:
    return [(step, {key: row[key] for key in row if key != "_runtime"}) for step, row in session.history]


def measured(shown: dict[str, Any]) -> list[Any]:
    """All numbers of evaluations, wherever `ablate show` has them."""
    found: list[Any] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if "metrics" in value and "split" in value:
                kept = {key: number for key, number in value["metrics"].items() if number is not None}
                found.append((value.get("epoch"), value["split"], value["resolution"], sorted(kept.items())))
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(shown)
    return sorted(found)


def test_without_an_account_it_says_what_to_do(
    here: Any, no_account: None, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    done = here("wandb", "sync", "--all")
    assert done.returncode == 1
    assert done.stdout.count("failed ") == 1 and "2 more not tried" in done.stderr
    assert "`wandb login`" in done.stderr and "WANDB_API_KEY" in done.stderr
    assert "wandb lacks something of 1 runs" in here("status").stderr
    monkeypatch.setattr(machine, "probe", lambda: {"missing": {}, "devices": ["cpu"]})
    assert "`ablate wandb sync toy-" in here("doctor").stdout
    for arguments in (["none"], ["toys", "--all"], ["toys", "--timeout", "0"]):
        assert here("wandb", "sync", *arguments).returncode == 2, arguments
    monkeypatch.setenv("WANDB_MODE", "offline")
    refused = here("wandb", "sync", "toys")
    assert refused.returncode == 2 and "WANDB_MODE=offline" in refused.stderr


class _Silent(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        time.sleep(30)

    do_GET = do_POST = _answer  # noqa: N815


@pytest.fixture
def silent_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_says_nothing_is_given_up(
    silent_server: str, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(mirror_sync, "INIT_SECONDS", 0.0)
    runs = RunsDir(place / "runs")
    wanted = mirror_sync.Wanted(patience=2.0)
    began = time.monotonic()
    [done] = mirror_sync.carry_out(mirror_sync.plan(runs.runs(), runs, wanted), wanted)
    assert (done.unreachable, done.error) == (True, "wandb: no answer within 4 s")
    assert time.monotonic() - began < 15
