"""The wandb mirror of runs that train, with the real wandb in offline mode: what it wrote is read back from its files."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ablate.engine.mirror_rows import Rows
from ablate.engine.mirror_session import metrics_of
from ablate.engine.mirror_target import digest_of, lacking, read_mirrored, target_of
from ablate.external.wandb_file import Session, fragments, read_session
from ablate.runs import journal, notes
from ablate.runs.directory import RunConfig, read_config, write_config
from ablate.runs.paths import RunPaths

pytestmark = pytest.mark.slow


def offline(paths: RunPaths, **settings: Any) -> RunPaths:
    config = read_config(paths)
    wandb = {"mode": "offline", "project": "toys", "group": "quick", "log_every": 1, **settings}
    write_config(paths, RunConfig(config.config, config.command, wandb))
    return paths


def start(module: str, paths: RunPaths, *options: str) -> subprocess.Popen[bytes]:
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", f"ablate.engine.{module}", str(paths.root), *options]
        return subprocess.Popen(command, stdout=log, stderr=log)


def sessions(paths: RunPaths) -> list[Session]:
    return [read_session(path) for path in sorted(paths.root.rglob("run-*.wandb"))]


def history(paths: RunPaths) -> dict[int, Mapping[str, Any]]:
    """What all offline sessions hold together, by wandb's step."""
    return {
        step: {key: value for key, value in row.items() if not key.startswith(("_", "panels/"))}
        for session in sessions(paths)
        for step, row in session.history
    }


def expected(paths: RunPaths) -> dict[int, Mapping[str, Any]]:
    rows = Rows(metrics_of(paths))
    return {row.step: dict(row.values) for line in journal.read(paths.journal) for row in rows.of(line.record)}


def kinds(path: Path) -> set[str]:
    """Which kinds of records a file of wandb's has, and which measurements of the machine."""
    from wandb.proto import wandb_internal_pb2

    found = set()
    with path.open("rb") as file:
        for _, data in fragments(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.add(str(record.WhichOneof("record_type")))
            found |= {item.key for item in record.stats.item}
    return found


def test_everything_of_a_run_arrives(make_run: Any) -> None:
    """Steps, epochs, evaluations, configuration, study, notes and tags, also those of meanwhile, pictures, the machine."""
    paths = offline(make_run(train={"epochs": 3}, sleep=0.1, eval={"panels": {"images": 1, "epochs": "every"}}))
    notes.add_note(paths, "before")
    worker = start("worker", paths)
    mirror = start("mirror", paths, "--pid", str(worker.pid))
    notes.add_tags(paths, ["thesis", "figure 3"])
    notes.add_note(paths, "the power went out")
    assert worker.wait(timeout=60) == 0
    assert mirror.wait(timeout=60) == 0, paths.log.read_text()
    assert history(paths) == expected(paths)
    assert len(history(paths)) == 3 * (4 + 1 + 2) + sum("test/full/d1" in row for row in history(paths).values()) * 2
    [session] = sessions(paths)
    assert (session.run_id, session.name, session.group) == ("aaaaaaaa", "toy-aaaaaaaa", "quick")
    assert (session.project, session.exit_code, session.damage) == ("toys", 0, None)
    assert (session.notes, session.tags) == ("before\n\nthe power went out", ("thesis", "figure 3"))
    assert (session.config["train"], session.config["sleep"]) == ({"epochs": 3}, 0.1)
    assert session.config["ablate"]["run_id"] == "aaaaaaaa" and session.config["environment"]["device"] == "cpu"
    assert session.summary["state"] == "complete" and session.summary["best/val/full/AbsRel"] > 0
    shown = [(row["epoch"], key) for _, row in session.history for key in row if key.startswith("panels/")]
    assert [(epoch, key) for epoch, key in shown if "/val/" in key] == [(n, "panels/val/val/2") for n in (1, 2, 3)]
    assert (3, "panels/test/test/2") in shown and len(shown) == len(set(shown))
    assert len(list(session.path.parent.glob("files/media/images/panels/**/*.png"))) >= 2
    assert {"stats", "proc.cpu.threads"} <= kinds(session.path)
    arrived = read_mirrored(paths).places["offline"]
    assert arrived.bytes == paths.journal.stat().st_size
    assert arrived.digest == digest_of(paths, target_of(read_config(paths).wandb))


def test_kills_of_mirror_and_training_leave_one_whole_run(make_run: Any) -> None:
    """The mirror is killed, then the training; the next attempt's mirror sends what is missing, and no step differs."""
    paths = offline(make_run(train={"epochs": 4, "checkpoint": {"every": "1step"}}, sleep=0.1))
    worker = start("worker", paths)
    mirror = start("mirror", paths, "--pid", str(worker.pid))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (sessions(paths) and len(expected(paths)) > 5):
        time.sleep(0.1)
    mirror.send_signal(signal.SIGKILL)
    mirror.wait()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    paths.mirror_log.touch()
    assert lacking(paths) == "it was cut off before all was sent"
    assert 0 < len(expected(paths)) < 20
    worker = start("worker", paths)
    mirror = start("mirror", paths, "--pid", str(worker.pid))
    assert worker.wait(timeout=60) == 0
    assert mirror.wait(timeout=60) == 0, paths.log.read_text()
    assert history(paths) == expected(paths)
    assert len(sessions(paths)) == 2 and {session.run_id for session in sessions(paths)} <= {"aaaaaaaa", ""}
    assert lacking(paths) is None
    steps = sorted(row["train/step"] for row in history(paths).values() if "train/step" in row)
    assert steps == list(range(1, 17)), "a step twice, or none"


def test_its_failure_is_its_own(make_run: Any) -> None:
    paths = offline(make_run(train={"epochs": 2}), mode="nonsense")
    assert start("mirror", paths).wait(timeout=60) == 1
    assert start("worker", paths).wait(timeout=60) == 0
    assert "nonsense" in paths.log.read_text() and "`ablate wandb sync toy-aaaaaaaa`" in paths.log.read_text()
    assert "ValidationError" in (lacking(paths) or "")
