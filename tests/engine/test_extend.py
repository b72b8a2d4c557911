"""A finished run goes on, and is then the run of more epochs, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.engine.collect import Policy, sweep
from ablate.engine.extend import extend
from ablate.errors import UsageError
from ablate.runs import journal
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.paths import RunPaths, RunsDir


def train(paths: RunPaths) -> int:
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", "ablate.engine.worker", str(paths.root)]
        return subprocess.run(command, stdout=log, stderr=log, timeout=60, check=False).returncode


def found(paths: RunPaths) -> tuple[dict[Any, Any], list[str], Any]:
    """Results, digests of the files, and the loop's state at the end."""
    results: dict[Any, Any] = {}
    for line in journal.read(paths.journal):
        record = line.record
        if record.type == "epoch":
            results["epoch", record.epoch] = {key: record.body[key] for key in ("train_loss", "images", "order")}
        if record.type == "evaluation":
            results[record.epoch, record.body["split"], record.body["resolution"]] = dict(record.body)
    manifest = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    loop = {key: value for key, value in manifest.loop.items() if key != "seconds"}
    return results, [stored.sha256 for stored in manifest.stored()], loop


@pytest.fixture
def runs(tmp_path: Path) -> RunsDir:
    return RunsDir(tmp_path / "runs")


def ignored(text: str) -> None:
    return None


@pytest.mark.parametrize(("short", "lr"), [(2, 0.1), (4, 0.6)])
def test_an_extended_run_is_the_longer_run(make_run: Any, runs: RunsDir, short: int, lr: float) -> None:
    """At 0.6 the best epoch is not the last one."""
    whole = make_run("toy-bbbbbbbb", train={"epochs": 7, "lr": lr})
    begun = make_run(train={"epochs": short, "lr": lr})
    assert train(whole) == train(begun) == 0
    longer = extend(begun, 7, runs, ["ablate", "extend"], ignored)
    assert longer.name not in (begun.name, whole.name)
    assert train(longer) == 0
    assert found(longer) == found(whole)
    assert extend(begun, 7, runs, ["ablate", "extend"], ignored).root == longer.root


def test_what_cannot_be_extended(make_run: Any, runs: RunsDir) -> None:
    paths = make_run(train={"epochs": 2})
    with pytest.raises(UsageError, match="is not complete"):
        extend(paths, 4, runs, [], ignored)
    assert train(paths) == 0
    with pytest.raises(UsageError, match="has 2 epochs already"):
        extend(paths, 2, runs, [], ignored)
    sweep(paths, Policy.parse("best,last", None))
    with pytest.raises(UsageError, match="only its weights left"):
        extend(paths, 4, runs, [], ignored)


def test_a_run_that_stopped_early_is_not_extended(make_run: Any, runs: RunsDir) -> None:
    paths = make_run(train={"epochs": 30, "lr": 0.6, "early_stopping": {"patience": 2}})
    assert train(paths) == 0
    with pytest.raises(UsageError, match="stopped early"):
        extend(paths, 40, runs, [], ignored)
