"""One run in a real process: it trains, it stops, it is killed, it fails, and it goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ablate.runs import journal, lease, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.paths import RunPaths
from ablate.runs.states import Reason, State


def start(paths: RunPaths, *options: str) -> subprocess.Popen[bytes]:
    with paths.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ablate.engine.worker", str(paths.root), *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def train(paths: RunPaths, *options: str) -> int:
    return start(paths, *options).wait(timeout=60)


def wait_for_steps(paths: RunPaths, steps: int, process: subprocess.Popen[bytes]) -> None:
    """Until the progress file has come so far, or the process has ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            progress = json.loads(paths.progress.read_bytes())
        except (OSError, ValueError):
            progress = {"epoch": 0, "step": 0, "steps": 0}
        if max(0, progress["epoch"] - 1) * progress["steps"] + progress["step"] >= steps:
            return
        time.sleep(0.005)


def results(paths: RunPaths) -> dict[tuple[Any, ...], Any]:
    """The newest record of every epoch and evaluation, less what a clock decides."""
    found = {}
    for line in journal.read(paths.journal):
        record = line.record
        if record.type == "epoch":
            found[record.type, record.epoch] = {key: record.body[key] for key in ("train_loss", "images", "order")}
        if record.type == "evaluation":
            found[record.type, record.epoch, record.body["split"], record.body["resolution"]] = record.body
    return found


def events(paths: RunPaths, name: str) -> list[dict[str, Any]]:
    return [dict(line.record.body) for line in journal.read(paths.journal) if line.record.body.get("name") == name]


def digests(paths: RunPaths) -> list[tuple[str, str]]:
    manifest = Checkpoints(paths.checkpoints).latest(print)
    assert manifest is not None
    assert manifest.best is not None
    return [("best", manifest.best.sha256), *((key, stored.sha256) for key, stored in manifest.files.items())]


def test_a_run_trains_to_its_end_and_keeps_its_last_checkpoint(make_run: Any) -> None:
    paths = make_run(train={"epochs": 3})
    assert train(paths) == 0
    assert states.status(paths).state is State.COMPLETE
    found = results(paths)
    assert {key for key in found if key[0] == "epoch"} == {("epoch", 1), ("epoch", 2), ("epoch", 3)}
    assert ("evaluation", 3, "test", "reduced") in found
    losses = [found["epoch", epoch]["train_loss"] for epoch in (1, 2, 3)]
    assert losses[2] < losses[0]
    assert sorted(path.suffix for path in paths.checkpoints.iterdir()) in (
        [".json", ".pt", ".pt"],
        [".json", ".pt", ".pt", ".pt"],  # the best epoch was not the last one
    )
    assert dict(digests(paths)).keys() == {"best", "weights", "optimizer"}
    assert not paths.progress.exists()


def test_checkpoints_of_every_second_epoch_can_be_kept(make_run: Any) -> None:
    paths = make_run(train={"epochs": 5, "checkpoint": {"keep_every": 2}})
    assert train(paths) == 0
    store = Checkpoints(paths.checkpoints)
    manifests = [Manifest.read(path) for path in store.manifests()]
    assert [manifest.position.epoch - 1 for manifest in manifests] == [5, 4, 2]
    for manifest in manifests:
        store.verify(manifest)
    assert [set(manifest.files) for manifest in manifests] == [{"weights", "optimizer"}, {"weights"}, {"weights"}]
    plain = make_run("toy-bbbbbbbb", train={"epochs": 5})
    assert train(plain) == 0
    assert results(plain) == results(paths)


def test_scores_of_images_are_kept_for_the_best_and_the_last_epoch(make_run: Any) -> None:
    paths = make_run(train={"epochs": 4})
    assert train(paths) == 0
    best = events(paths, "selected")[-1]["epoch"]
    found = results(paths)
    for epoch in (best, 4):
        assert len(found["evaluation", epoch, "val", "full"]["scores"]) == 4
        assert ("evaluation", epoch, "test", "full") in found


def test_max_steps_ends_inside_an_epoch(make_run: Any) -> None:
    paths = make_run(train={"epochs": 5, "max_steps": 6})
    assert train(paths) == 0
    found = results(paths)
    assert [found["epoch", epoch]["images"] for epoch in (1, 2)] == [8, 4]
    assert ("epoch", 3) not in found
    assert ("evaluation", 2, "test", "full") in found


def test_no_epochs_is_an_evaluation(make_run: Any) -> None:
    paths = make_run(train={"epochs": 0})
    assert train(paths) == 0
    assert {key[:3] for key in results(paths)} == {("evaluation", 0, "val"), ("evaluation", 0, "test")}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_saves_and_the_next_attempt_ends_where_an_undisturbed_one_does(
    make_run: Any, sent: signal.Signals
) -> None:
    calm = make_run("toy-bbbbbbbb", train={"epochs": 3})
    assert train(calm) == 0
    paths = make_run(train={"epochs": 3}, sleep=0.05)
    process = start(paths)
    wait_for_steps(paths, 5, process)
    process.send_signal(sent)
    assert process.wait(timeout=30) == (130 if sent == signal.SIGINT else 75)
    assert states.status(paths).state is State.PAUSED
    assert states.status(paths).reason is Reason.SIGNAL
    saved = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    assert saved.loop["total_steps"] >= 5, "a stop within an epoch must not lose its steps"
    assert train(paths) == 0
    assert results(paths) == results(calm)
    assert digests(paths) == digests(calm)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(make_run: Any) -> None:
    paths = make_run(train={"epochs": 3}, sleep=20)
    process = start(paths)
    while not events(paths, "opened"):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_change_nothing(make_run: Any, seed: int) -> None:
    calm = make_run("toy-bbbbbbbb", train={"epochs": 3, "checkpoint": {"every": "3 steps"}})
    assert train(calm) == 0
    paths = make_run(train={"epochs": 3, "checkpoint": {"every": "3 steps"}}, sleep=0.15)
    draw = random.Random(seed)
    for target in sorted(draw.sample(range(1, 9), 3)):  # of twelve steps, so that the run cannot end before
        paths.progress.unlink(missing_ok=True)
        process = start(paths)
        wait_for_steps(paths, target, process)
        time.sleep(draw.uniform(0, 0.15))  # anywhere within the step
        assert process.poll() is None, "the run must not end before it is killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
    assert train(paths) == 0
    assert results(paths) == results(calm)
    assert digests(paths) == digests(calm)
    assert not events(paths, "differs")


def test_a_complete_run_is_left_as_it_is(make_run: Any) -> None:
    paths = make_run(train={"epochs": 2})
    assert train(paths) == 0
    before = (paths.journal.read_bytes(), digests(paths))
    assert train(paths) == 0
    assert (paths.journal.read_bytes(), digests(paths)) == before


def test_a_lost_outcome_of_a_complete_run_is_written_again(make_run: Any) -> None:
    paths = make_run(train={"epochs": 2})
    assert train(paths) == 0
    before = (paths.journal.read_bytes(), digests(paths), states.read_outcome(paths))
    paths.outcome.unlink()
    assert train(paths) == 0
    after = (paths.journal.read_bytes(), digests(paths), states.read_outcome(paths))
    assert after[:2] == before[:2]
    assert after[2] is not None
    assert before[2] is not None
    assert (after[2].state, after[2].attempt) == (before[2].state, before[2].attempt)


def test_a_killed_run_is_paused_until_somebody_goes_on(make_run: Any) -> None:
    paths = make_run(trouble={"kind": "kill", "step": 6})
    assert train(paths) == -signal.SIGKILL
    assert not lease.is_held(paths.lease)
    assert states.status(paths) == states.Status(State.PAUSED, Reason.KILLED, "its process ended without a word")


@pytest.mark.parametrize(
    ("kind", "state", "reason", "words"),
    [
        ("crash", State.FAILED, Reason.CRASH, "RuntimeError: the toy broke"),
        ("oom", State.FAILED, Reason.OOM, "the toy needs 9 GiB"),
        ("memory", State.FAILED, Reason.OOM, "MemoryError"),
        ("nan", State.FAILED, Reason.DIVERGED, "the loss is nan in epoch 1, step 2"),
        ("data", State.FAILED, Reason.DATA, "toy/3 cannot be read"),
        ("disk", State.PAUSED, Reason.DISK, "No space left on device"),
    ],
)
def test_a_failure_is_a_stored_result(make_run: Any, kind: str, state: State, reason: Reason, words: str) -> None:
    paths = make_run(trouble={"kind": kind, "step": 2})
    assert train(paths) == 1
    outcome = states.read_outcome(paths)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == (state, reason)
    assert words in (outcome.message or "")
    assert "Traceback" in (outcome.traceback or "")
    assert "Traceback" in paths.log.read_text()


def test_a_mended_run_goes_on_from_its_last_checkpoint(make_run: Any, tmp_path: Path) -> None:
    calm = make_run("toy-bbbbbbbb", train={"epochs": 3})
    train(calm)
    paths = make_run(train={"epochs": 3}, trouble={"kind": "crash", "step": 10, "once": str(tmp_path / "once")})
    assert train(paths) == 1
    assert train(paths) == 0
    attempts = [line.record.body for line in journal.read(paths.journal) if line.record.type == "attempt"]
    assert [attempt["resumed_from"] for attempt in attempts] == [None, {"stage": 0, "epoch": 3, "step": 0}]
    assert results(paths) == results(calm)


def test_the_first_attempt_fixes_the_thread_count(make_run: Any, tmp_path: Path) -> None:
    paths = make_run(trouble={"kind": "crash", "step": 2, "once": str(tmp_path / "once")})
    train(paths, "--threads", "3")
    train(paths, "--threads", "1")
    attempts = [line.record.body for line in journal.read(paths.journal) if line.record.type == "attempt"]
    assert [attempt["threads"] for attempt in attempts] == [3, 3]


def test_a_held_run_is_not_trained_twice(make_run: Any) -> None:
    paths = make_run()
    with lease.Lease.acquire(paths.lease, "the run"):
        assert train(paths) == 75
    assert f"process {os.getpid()} on" in paths.log.read_text()
    assert not paths.journal.exists()


def test_changed_inputs_are_refused(make_run: Any, tmp_path: Path) -> None:
    root = tmp_path / "list"
    root.write_text("1234567")
    paths = make_run(digests={"root": "3"}, data={"root": str(root)})
    assert train(paths) == 1
    outcome = states.read_outcome(paths)
    assert outcome is not None
    assert outcome.reason is Reason.DATA
    assert "root changed since the run began" in (outcome.message or "")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(make_run: Any, tmp_path: Path) -> None:
    calm = make_run("toy-bbbbbbbb", train={"epochs": 3})
    train(calm)
    paths = make_run(train={"epochs": 3}, trouble={"kind": "crash", "step": 10, "once": str(tmp_path / "once")})
    train(paths)
    newest = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    damaged = paths.checkpoints / newest.files["optimizer"].name
    flipped = bytearray(damaged.read_bytes())
    flipped[3] ^= 1
    damaged.write_bytes(flipped)
    assert train(paths) == 0
    assert "is damaged and passed over" in paths.log.read_text()
    assert results(paths) == results(calm)


def test_when_no_checkpoint_is_whole_only_from_scratch_goes_on(make_run: Any, tmp_path: Path) -> None:
    calm = make_run("toy-bbbbbbbb", train={"epochs": 3})
    train(calm)
    paths = make_run(train={"epochs": 3}, trouble={"kind": "crash", "step": 10, "once": str(tmp_path / "once")})
    train(paths)
    for path in paths.checkpoints.glob("*.pt"):
        path.write_bytes(b"[]")
    assert train(paths) == 1
    outcome = states.read_outcome(paths)
    assert outcome is not None
    assert "--from-scratch" in (outcome.message or "")
    assert train(paths, "--from-scratch") == 0
    assert results(paths) == results(calm)


def test_an_epoch_that_comes_out_different_is_flagged(make_run: Any, tmp_path: Path) -> None:
    paths = make_run(train={"epochs": 2}, trouble={"kind": "crash", "step": 5, "once": str(tmp_path / "once")})
    train(paths)
    records = [line.record for line in journal.read(paths.journal)]
    with paths.journal.open("wb") as file:
        for record in records:
            body = dict(record.body)
            if record.type == "epoch":
                body["train_loss"] += 1e-9
            file.write(journal.encode(journal.Record(**{**vars(record), "body": body})))
    Checkpoints(paths.checkpoints).discard()
    assert train(paths) == 0
    assert [(event["type"], event["split"]) for event in events(paths, "differs")] == [("epoch", None)]
