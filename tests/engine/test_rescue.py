"""What a run does about divergence and memory that runs out, and when it stops early: real processes, toy task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.engine import divergence
from ablate.runs import journal, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.paths import RunPaths
from ablate.runs.states import Reason, State
from ablate.task import DivergenceSettings


def train(paths: RunPaths, *options: str) -> int:
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", "ablate.engine.worker", str(paths.root), *options]
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True).wait(timeout=60)


def events(paths: RunPaths, name: str) -> list[dict[str, Any]]:
    records = (line.record for line in journal.read(paths.journal))
    return [dict(record.body) for record in records if record.body.get("name") == name]


def epochs(paths: RunPaths) -> dict[int, float]:
    """The newest loss of each epoch."""
    records = (line.record for line in journal.read(paths.journal))
    return {record.epoch: record.body["train_loss"] for record in records if record.type == "epoch"}


def weights(paths: RunPaths) -> str:
    manifest = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    return manifest.files["weights"].sha256


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "the loss is nan"),
        ("negative", "negative (-1)"),
        ("explode", "more than 100 times (train.divergence.factor) the median"),
    ],
)
def test_divergence_is_a_stored_result(make_run: Any, kind: str, words: str) -> None:
    paths = make_run(train={"epochs": 4}, trouble={"kind": kind, "step": 14})
    assert train(paths) == 1
    outcome = states.read_outcome(paths)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.DIVERGED)
    assert words in (outcome.message or "")
    assert "in epoch 4, step 2" in (outcome.message or "")
    (event,) = events(paths, "diverged")
    assert len(event["images"]) == 2
    assert event["last_good_loss"] > 0
    assert event["gradient_norms"]["all"] > 0
    assert event["gradient_norms_of"] == ("the step before" if kind == "nan" else "this step")
    before = make_run("toy-bbbbbbbb", train={"epochs": 4, "max_steps": 13})
    assert train(before) == 0
    norms = Manifest.read(Checkpoints(before.checkpoints).manifests()[0]).loop["norms"]
    assert (event["gradient_norms"] == norms) == (kind == "nan")


def test_a_step_that_diverges_right_after_a_resume_still_has_the_norms_of_the_step_before(make_run: Any) -> None:
    """They travel in the checkpoint: how often a run was interrupted is nothing that its records may depend on."""
    found = []
    for name, every in (("toy-aaaaaaaa", "1 steps"), ("toy-bbbbbbbb", "10min")):
        trouble = {"kind": "nan", "step": 6}
        paths = make_run(name, train={"epochs": 2, "checkpoint": {"every": every}}, trouble=trouble)
        assert train(paths) == 1
        if every == "1 steps":  # the second attempt begins with the step that diverges
            assert train(paths) == 1
        found += events(paths, "diverged")
    assert len(found) == 3
    assert found[0] == found[1] == found[2]


def test_a_rollback_trains_the_epoch_again_at_a_lower_rate(make_run: Any) -> None:
    rolls = {"on_divergence": "rollback", "divergence": {"rollbacks": 3, "lr_factor": 0.5}}
    paths = make_run(train={"epochs": 4, **rolls}, trouble={"kind": "nan", "step": 10, "until": 2})
    assert train(paths) == 0
    assert [event["lr_factor"] for event in events(paths, "rollback")] == [0.5, 0.25]
    assert {event["to_epoch"] for event in events(paths, "rollback")} == {3}
    rates = {record.epoch: record.body["lr"] for record in _epoch_records(paths)}
    assert rates == {1: 0.1, 2: 0.1, 3: 0.025, 4: 0.025}


def _epoch_records(paths: RunPaths) -> list[Any]:
    return [line.record for line in journal.read(paths.journal) if line.record.type == "epoch"]


def test_rollbacks_are_bounded(make_run: Any) -> None:
    rolls = {"on_divergence": "rollback", "divergence": {"rollbacks": 2}}
    paths = make_run(train={"epochs": 2, **rolls}, trouble={"kind": "nan", "step": 3})
    assert train(paths) == 1
    assert len(events(paths, "rollback")) == 2
    outcome = states.read_outcome(paths)
    assert outcome is not None
    assert "it diverged again after 2 rollbacks, at 0.25 times" in (outcome.message or "")


@pytest.mark.slow
@pytest.mark.parametrize("target", [9, 11, 13])
def test_a_kill_around_a_rollback_changes_nothing(make_run: Any, target: int) -> None:
    """The checkpoint that a rollback goes to must not depend on when checkpoints happened to be saved."""
    rolls = {"on_divergence": "rollback", "checkpoint": {"every": "1 steps"}}
    trouble = {"kind": "nan", "step": 12, "until": 1}
    calm = make_run("toy-bbbbbbbb", train={"epochs": 4, "on_divergence": "rollback"}, trouble=trouble)
    assert train(calm) == 0
    paths = make_run(train={"epochs": 4, **rolls}, trouble=trouble, sleep=0.1)
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", "ablate.engine.worker", str(paths.root)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 30
    while _steps_saved(paths) < target and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    assert train(paths) == 0
    assert weights(paths) == weights(calm)
    assert epochs(paths) == epochs(calm)


def _steps_saved(paths: RunPaths) -> int:
    """Steps of the furthest checkpoint there was, or 12 once the run was rolled back."""
    if paths.journal.exists() and events(paths, "rollback"):
        return 12 + len(_epoch_records(paths)) - 2
    found = Checkpoints(paths.checkpoints).manifests() if paths.checkpoints.exists() else []
    try:
        return int(Manifest.read(found[0]).loop["total_steps"]) if found else 0
    except OSError:
        return 0


def test_the_memory_ladder_is_climbed_as_far_as_needed(make_run: Any) -> None:
    calm = make_run("toy-bbbbbbbb", train={"epochs": 3})
    assert train(calm) == 0
    paths = make_run(train={"epochs": 3, "on_oom": "ladder"}, trouble={"kind": "hungry", "step": 6, "until": 2})
    assert train(paths) == 0
    assert [(event["rung"], event["did"]) for event in events(paths, "ladder")] == [
        (1, "toy rung 1"),
        (2, "toy rung 2"),
    ]
    assert weights(paths) == weights(calm)


def test_the_rung_survives_a_new_attempt(make_run: Any) -> None:
    trouble = {"kind": "hungry", "step": 6, "until": 1}
    paths = make_run(train={"epochs": 3, "max_steps": 9, "on_oom": "ladder"}, trouble=trouble)
    assert train(paths) == 0
    assert Manifest.read(Checkpoints(paths.checkpoints).manifests()[0]).loop["rung"] == 1


def test_a_ladder_ends(make_run: Any) -> None:
    paths = make_run(train={"epochs": 2, "on_oom": "ladder"}, trouble={"kind": "hungry", "step": 2, "until": 9})
    assert train(paths) == 1
    outcome = states.read_outcome(paths)
    assert outcome is not None
    assert outcome.reason is Reason.OOM
    assert "no further rung, and a step needs about 3.0 GB on this one" in (outcome.message or "")


def test_a_crowded_device_is_not_the_runs_fault(make_run: Any) -> None:
    paths = make_run(train={"epochs": 2, "on_oom": "ladder"}, trouble={"kind": "hungry", "step": 2, "until": 1})
    assert train(paths, "--crowded") == 1
    assert not events(paths, "ladder")
    assert train(paths) == 0
    assert len(events(paths, "ladder")) == 1


def test_without_a_ladder_memory_that_runs_out_is_a_failure(make_run: Any) -> None:
    paths = make_run(train={"epochs": 2}, trouble={"kind": "hungry", "step": 2, "until": 1})
    assert train(paths) == 1
    assert not events(paths, "ladder")


def test_early_stopping_ends_the_run_and_tests_the_best_epoch(make_run: Any) -> None:
    """At this learning rate the toy gets worse after a while."""
    paths = make_run(train={"epochs": 40, "lr": 0.6, "early_stopping": {"patience": 2, "metric": "rmse"}})
    assert train(paths) == 0
    last = max(epochs(paths))
    (completed,) = events(paths, "completed")
    values = {
        line.record.epoch: line.record.body["metrics"]["rmse"]
        for line in journal.read(paths.journal)
        if line.record.type == "evaluation"
        and line.record.body["split"] == "val"
        and line.record.body["resolution"] == "full"
    }
    best = min(values, key=lambda epoch: values[epoch])
    assert last < 40
    assert completed["last_epoch"] == last == best + 2


@pytest.mark.parametrize("waited", [0, 1])
def test_patience_is_remembered_through_a_kill(make_run: Any, tmp_path: Path, waited: int) -> None:
    """Killed in the epochs after the best one, when so much patience was spent."""
    settings = {"epochs": 40, "lr": 0.6, "early_stopping": {"patience": 2, "metric": "rmse"}}
    calm = make_run("toy-aaaaaaaa", runs="calm", train=settings)
    assert train(calm) == 0
    per_epoch = next(
        line.record.step for line in journal.read(calm.journal) if (line.record.type, line.record.epoch) == ("epoch", 1)
    )
    best = max(epochs(calm)) - 2
    step = per_epoch * (best + waited) + 2
    trouble = {"kind": "kill", "step": step, "once": str(tmp_path / "done")}
    killed = make_run("toy-aaaaaaaa", train=settings, trouble=trouble)
    assert train(killed) == -signal.SIGKILL
    assert max(epochs(killed)) == best + waited
    assert train(killed) == 0
    assert epochs(killed) == epochs(calm) and weights(killed) == weights(calm)
    assert max(epochs(killed)) == best + 2


NUMBERS = st.floats(min_value=0.5, max_value=2.0)


@given(st.lists(NUMBERS, min_size=1, max_size=300), st.integers(10, 60))
def test_noise_is_no_divergence(losses: list[float], window: int) -> None:
    settings, recent = DivergenceSettings(factor=5, window=window), ()
    for loss in losses:
        assert divergence.problem(loss, recent, settings) is None
        recent = divergence.remember(recent, loss, settings)
        assert len(recent) <= window


@given(st.lists(NUMBERS, min_size=10, max_size=50), st.sampled_from([float("nan"), float("inf"), -1e-9, 1e9]))
def test_what_is_no_loss_is_divergence(losses: list[float], bad: float) -> None:
    assert divergence.problem(bad, losses, DivergenceSettings(factor=5)) is not None


def test_the_files_of_the_run_hold_the_start_of_the_epoch(make_run: Any, tmp_path: Path) -> None:
    train_settings = {"epochs": 3, "max_steps": 11, "on_divergence": "rollback", "checkpoint": {"every": "1 steps"}}
    paths = make_run(train=train_settings, trouble={"kind": "exit", "step": 11})
    assert train(paths) == 7
    positions = [Manifest.read(path).position for path in Checkpoints(paths.checkpoints).manifests()]
    assert [(position.epoch, position.step) for position in positions] == [(3, 2), (3, 1), (3, 0)]
