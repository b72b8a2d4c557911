"""`ablate stop`: asks whoever trains to finish the step, save and end, and waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ablate.runs import files, lease
from ablate.runs.lease import Holder
from ablate.runs.paths import RunPaths, RunsDir
from ablate.study.record import StudyRecord

Say = Callable[[str], None]

_POLL = 0.05
_REMIND_EVERY = 10.0


@dataclass(frozen=True)
class Target:
    """A lease that may be held: that of a study's coordinator, or of a run."""

    what: str
    lease: Path


class Answer(StrEnum):
    STOPPED = "stopped"
    ELSEWHERE = "held on another host"
    BUSY = "still busy"


@dataclass(frozen=True)
class Halted:
    """What became of one holder."""

    what: str
    holder: Holder | None
    answer: Answer


def everything(runs: RunsDir) -> list[Target]:
    """Every study, then every run: coordinators first, so that none starts the next run meanwhile."""
    names = sorted(path.stem for path in runs.studies.glob("*.lock")) if runs.studies.is_dir() else []
    return [*(_study(runs, name) for name in names), *(of_run(paths) for paths in runs.runs())]


def of_study(runs: RunsDir, name: str) -> list[Target]:
    """The study and the runs that it holds. Raises RecordError if its record is damaged."""
    record = read_record(runs, name)
    cells = record.cells if record else ()
    return [_study(runs, name), *(of_run(runs.run(cell.name)) for cell in cells if cell.current)]


def read_record(runs: RunsDir, name: str) -> StudyRecord | None:
    """What the study declared last; None if it was never run here. Raises RecordError."""
    path = runs.study(name)
    try:
        return StudyRecord.from_json(files.read_plain(path), str(path))
    except FileNotFoundError:
        return None


def of_run(paths: RunPaths) -> Target:
    return Target(f"run {paths.name}", paths.lease)


def _study(runs: RunsDir, name: str) -> Target:
    return Target(f"study {name}", runs.study_lease(name))


def halt(targets: Sequence[Target], wait: float, say: Say) -> list[Halted]:
    """Sends SIGTERM to the holder of every held lease and waits up to `wait` seconds for all of them.

    A holder is asked once; nobody but the very process that the lease names is, by host, boot and start time.
    """
    held = [(target, _holder(target.lease)) for target in targets if lease.is_held(target.lease)]
    for holder in dict.fromkeys(holder for _, holder in held if holder is not None):
        if is_here(holder) and ask(holder):
            say(f"asked process {holder.pid} to save and end")
    deadline, remind = time.monotonic() + wait, time.monotonic() + _REMIND_EVERY
    waiting = [(target, holder) for target, holder in held if holder is None or is_here(holder)]
    while time.monotonic() < deadline and any(lease.is_held(target.lease) for target, _ in waiting):
        if time.monotonic() > remind:
            say(f"waiting for {', '.join(target.what for target, _ in waiting if lease.is_held(target.lease))}")
            remind = time.monotonic() + _REMIND_EVERY
        time.sleep(_POLL)
    return [_outcome(target, holder) for target, holder in held]


def _holder(path: Path, patience: float = 0.5) -> Holder | None:
    """Who holds a lease; one who has just taken it may not have said so yet."""
    deadline = time.monotonic() + patience
    while (found := lease.holder(path)) is None and lease.is_held(path) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return found


def holder_of(paths: RunPaths) -> Holder | str | None:
    """Who trains a run; None if nobody does."""
    return (_holder(paths.lease) or "another process") if lease.is_held(paths.lease) else None


def _outcome(target: Target, holder: Holder | None) -> Halted:
    if not lease.is_held(target.lease):
        return Halted(target.what, holder, Answer.STOPPED)
    elsewhere = holder is not None and not is_here(holder)
    return Halted(target.what, holder, Answer.ELSEWHERE if elsewhere else Answer.BUSY)


def is_here(holder: Holder) -> bool:
    """Whether the holder is a process of this machine, started since it booted."""
    me = lease.this_process()
    return holder.host == me.host and holder.boot == me.boot


def ask(holder: Holder, number: signal.Signals = signal.SIGTERM) -> bool:
    """Sends a signal to the holder; False if that process is gone, also if another one has its number now."""
    with contextlib.suppress(ProcessLookupError), _handle(holder.pid) as send:
        if lease.process_started(holder.pid) == holder.started:
            send(number)
            return True
    return False


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[Callable[[int], None]]:
    """A way to signal one process for good: with a pidfd (Linux) no later one can take its place."""
    if not hasattr(os, "pidfd_open"):
        yield lambda number: os.kill(pid, number)
        return
    descriptor = os.pidfd_open(pid)
    try:
        yield lambda number: signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def study_names(runs: RunsDir) -> set[str]:
    """Studies that were run here, or are being run."""
    if not runs.studies.is_dir():
        return set()
    return {path.stem for path in runs.studies.iterdir() if path.suffix in (".json", ".lock")}
