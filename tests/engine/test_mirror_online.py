"""The mirror and `ablate wandb sync` against a server that answers wandb's real client as wandb's own does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ablate.runs import journal, notes
from ablate.runs.directory import RunConfig, read_config, write_config
from ablate.runs.paths import RunPaths

pytestmark = pytest.mark.slow


def start(module: str, paths: RunPaths, *options: str) -> subprocess.Popen[bytes]:
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", f"ablate.engine.{module}", str(paths.root), *options]
        return subprocess.Popen(command, stdout=log, stderr=log)


def sync(paths: RunPaths, *options: str) -> list[str]:
    command = [sys.executable, "-c", "from ablate.cli import main; main()", "wandb", "sync", *options]
    done = subprocess.run(
        [*command, "--runs-dir", str(paths.root.parent)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def numbers(history: list[dict[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """By wandb's step; a step that is there twice fails."""
    found = {row["_step"]: {key: value for key, value in row.items() if not key.startswith("_")} for row in history}
    assert len(found) == len(history)
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def journal_has(paths: RunPaths, kind: str) -> bool:
    return any(line.record.type == kind for line in journal.read(paths.journal))


def url(run: Any) -> str:
    return f"{os.environ['WANDB_BASE_URL']}/me/{run.project}/runs/aaaaaaaa"


def expected(paths: RunPaths) -> dict[int, Mapping[str, Any]]:
    from ablate.engine.mirror_rows import Rows
    from ablate.engine.mirror_session import metrics_of

    rows = Rows(metrics_of(paths))
    return {row.step: row.values for line in journal.read(paths.journal) for row in rows.of(line.record)}


def test_a_run_with_a_hard_life_is_one_run_on_the_server(make_run: Any, wandb_server: Any) -> None:
    """The mirror is killed, then the training is stopped, then both go on: no row twice, none missing."""
    paths = make_run(train={"epochs": 6}, sleep=0.08)
    stored = read_config(paths)
    write_config(paths, RunConfig(stored.config, stored.command, {"mode": "online", "group": "g", "log_every": 1}))
    notes.add_tags(paths, ["thesis"])
    worker = start("worker", paths)
    mirror = start("mirror", paths, "--pid", str(worker.pid))
    wait_until(lambda: "aaaaaaaa" in wandb_server.runs)
    mirror.kill()
    mirror.wait()
    run = wandb_server.runs["aaaaaaaa"]
    assert (run.fields["displayName"], run.fields["groupName"], run.project) == ("toy-aaaaaaaa", "g", "g")
    assert run.fields["tags"] == ["thesis"]

    again = start("mirror", paths, "--pid", str(worker.pid))
    wait_until(lambda: journal_has(paths, "evaluation"))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 75
    assert again.wait(timeout=60) == 0, paths.log.read_text()
    before = numbers(run.history)
    assert before == expected(paths)
    assert (run.exit_code, run.summary["state"], run.summary["reason"]) == (1, "paused", "signal")

    assert start("worker", paths).wait(timeout=60) == 0  # without a mirror, as if its machine had no network
    assert sync(paths, "toy") == [f"sent     toy-aaaaaaaa  {len(expected(paths)) - len(before)} rows  {url(run)}"]
    found = numbers(run.history)
    assert found == expected(paths)
    assert len(found) == 6 * (4 + 1 + 2) + 2 + 2 * (run.summary["best_epoch"] != 6) > len(before) > 0
    assert (run.exit_code, run.summary["state"], run.summary["attempts"]) == (0, "complete", 2)
    assert json.loads(run.fields["config"])["train"]["value"]["epochs"] == 6

    asked = wandb_server.requests
    assert sync(paths, "toy") == ["same     toy-aaaaaaaa  sent already"]
    assert wandb_server.requests == asked
    notes.add_note(paths, "the power went out")
    assert sync(paths, "toy", "--dry-run") == ["send     toy-aaaaaaaa  changed since it was sent"]
    assert wandb_server.requests == asked
    assert sync(paths, "toy") == [f"sent     toy-aaaaaaaa  0 rows  {url(run)}"]
    assert (run.fields["notes"], numbers(run.history)) == ("the power went out", found)
