"""States of a run, and how they follow from its files."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum

from ablate.errors import RecordError
from ablate.runs import disk, files, lease
from ablate.runs.paths import RunPaths


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a run is paused or failed."""

    CRASH = "crash"
    KILLED = "killed"
    OOM = "oom"
    DIVERGED = "diverged"
    DATA = "data"
    DISK = "disk"
    SIGNAL = "signal"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: a failed run is a stored result."""

    state: State
    reason: Reason | None = None
    message: str | None = None
    traceback: str | None = None
    attempt: int = 0
    wall: float = 0.0


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    state: State
    reason: Reason | None = None
    message: str | None = None


def write_outcome(paths: RunPaths, outcome: Outcome) -> None:
    value = {"v": 1, **asdict(outcome), "wall": outcome.wall or time.time()}
    files.write_json(paths.outcome, value)


def read_outcome(paths: RunPaths) -> Outcome | None:
    """Raises RecordError if the file is damaged."""
    try:
        value = files.read_json(paths.outcome)
    except FileNotFoundError:
        return None
    try:
        return Outcome(
            state=State(value["state"]),
            reason=None if value["reason"] is None else Reason(value["reason"]),
            message=value["message"],
            traceback=value["traceback"],
            attempt=int(value["attempt"]),
            wall=float(value["wall"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{paths.outcome}: not an outcome ({error})") from error


def status(paths: RunPaths) -> Status:
    """The state, from the lease, the outcome and the journal; cheap enough for ten thousand runs."""
    if lease.is_held(paths.lease):
        return Status(State.RUNNING)
    outcome = read_outcome(paths)
    if outcome is not None and outcome.state is State.COMPLETE:
        return Status(State.COMPLETE)
    if outcome is not None:
        return Status(outcome.state, outcome.reason, outcome.message)
    if paths.journal.exists() and paths.journal.stat().st_size:
        return Status(State.PAUSED, Reason.KILLED, "its process ended without a word")
    return Status(State.QUEUED)


def clear_outcome(paths: RunPaths) -> None:
    """A new attempt begins: how the last one ended is no longer where the run stands."""
    if paths.outcome.exists():
        disk.unlink(paths.outcome)
        files.fsync_folder(paths.root)
