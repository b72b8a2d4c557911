"""The wandb mirror, with the real wandb in offline mode: what it wrote is read back from its own files."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ablate.runs import journal
from ablate.runs.directory import RunConfig, read_config, write_config
from ablate.runs.paths import RunPaths

pytestmark = pytest.mark.slow


def offline(paths: RunPaths, **settings: Any) -> RunPaths:
    config = read_config(paths)
    wandb = {"mode": "offline", "project": "toys", "group": "quick", **settings}
    write_config(paths, RunConfig(config.config, config.command, wandb))
    return paths


def start(module: str, paths: RunPaths, *options: str) -> subprocess.Popen[bytes]:
    with paths.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"ablate.engine.{module}", str(paths.root), *options], stdout=log, stderr=log
        )


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: a LevelDB log of 32 KiB blocks behind a header of seven bytes."""
    position, parts = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", content[position : position + 7])
        if kind not in (1, 2, 3, 4) or position + 7 + size > len(content):
            return  # a session that was cut off ends in the middle of a record
        parts += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def history(paths: RunPaths) -> dict[int, dict[str, Any]]:
    """What all offline sessions hold together, by wandb step."""
    from wandb.proto import wandb_internal_pb2

    found: dict[int, dict[str, Any]] = {}
    for path in sorted(paths.root.rglob("*.wandb")):
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
                step = row.pop("_step", record.history.step.num)
                found[int(step)] = {key: value for key, value in row.items() if not key.startswith("_")}
    return found


def expected(paths: RunPaths) -> dict[int, dict[str, Any]]:
    from ablate.engine.mirror import charted

    records = (line.record for line in journal.read(paths.journal))
    return {record.seq: numbers for record in records if (numbers := charted(record)) is not None}


def test_everything_arrives_once(make_run: Any) -> None:
    paths = offline(make_run(train={"epochs": 3}))
    worker = start("worker", paths)
    mirror = start("mirror", paths, "--pid", str(worker.pid))
    assert worker.wait(timeout=60) == 0
    assert mirror.wait(timeout=60) == 0, paths.log.read_text()
    found = history(paths)
    assert found == expected(paths)
    assert len(found) == 3 + 3 * 2 + sum("test/" in str(row) for row in found.values())
    assert json.loads(paths.mirror.read_bytes())["offset"] == paths.journal.stat().st_size


def test_a_killed_mirror_is_made_up_for(make_run: Any) -> None:
    paths = offline(make_run(train={"epochs": 3}, sleep=0.1))
    worker = start("worker", paths)
    mirror = start("mirror", paths, "--pid", str(worker.pid))
    time.sleep(4)
    mirror.send_signal(signal.SIGKILL)
    mirror.wait()
    assert worker.wait(timeout=60) == 0
    assert start("mirror", paths, "--pid", "0").wait(timeout=60) == 0, paths.log.read_text()
    assert history(paths) == expected(paths)


def test_its_failure_is_its_own(make_run: Any) -> None:
    paths = offline(make_run(train={"epochs": 2}), mode="nonsense")
    assert start("mirror", paths).wait(timeout=60) == 1
    assert start("worker", paths).wait(timeout=60) == 0
    assert "nonsense" in paths.log.read_text()
