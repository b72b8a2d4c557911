"""One worker process as the coordinator sees it: started, asked to stop, found silent, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ablate.engine.devices import worker_environment
from ablate.engine.progress import Progress, read_progress
from ablate.engine.slots import Slot
from ablate.engine.worker import EXIT_HELD, Assignment
from ablate.errors import HeldError, RecordError
from ablate.runs import disk, files, states
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths
from ablate.runs.states import Outcome, Reason, State

_LOG_TAIL = 2000


@dataclass(frozen=True)
class Job:
    """One run to train. `device` is what a worker is told; with a pool, the device that it got."""

    paths: RunPaths
    device: str
    threads: int
    cache_dir: Path
    from_scratch: bool = False
    mirrored: bool = False
    """Whether wandb gets a copy."""
    architecture: str = ""
    """Equal for runs with the same model; empty if nothing is known."""
    memory: int = 0
    """Bytes that the run reserves on its device."""
    retry: str = ""
    """If it is one: which of how many, and after what."""
    crowded: bool = False
    """Whether other runs may be on the device, and memory that runs out is tried again alone."""

    def assignment(self) -> Assignment:
        return Assignment(
            self.paths.root,
            self.device,
            self.threads,
            self.cache_dir,
            self.from_scratch,
            parent=os.getpid(),
            retry=self.retry,
            crowded=self.crowded,
        )


@dataclass(frozen=True)
class Ended:
    """How a job ended in this invocation; `held` if another process trains the run."""

    job: Job
    outcome: Outcome | None
    held: bool = False

    @property
    def complete(self) -> bool:
        return self.outcome is not None and self.outcome.state is State.COMPLETE

    @property
    def failure(self) -> Reason | None:
        """Why it failed, if it did: a run that was told to stop, or that somebody else trains, did not."""
        if self.held or self.outcome is None or self.complete or self.outcome.reason is Reason.SIGNAL:
            return None
        return self.outcome.reason or Reason.CRASH


@dataclass
class Worker:
    """A process that trains a job. `failures` counts how earlier attempts of this invocation ended."""

    job: Job
    process: subprocess.Popen[bytes]
    failures: Counter[Reason] = field(default_factory=Counter)
    slot: Slot | None = None
    alone: bool = False
    before: Outcome | None = None
    """The outcome of the attempt before this one."""
    asked: signal.Signals | None = None
    """The signal by which it was told to stop."""
    _asked_at: float = 0.0
    _overdue: bool = False
    _seen: tuple[float, ...] = ()
    _seen_at: float = 0.0
    _first_progress: Progress | None = None
    _journal_size: int = 0

    @classmethod
    def start(cls, job: Job, slot: Slot | None, failures: Counter[Reason], *, alone: bool) -> Worker:
        """Raises OSError if there can be no process, or no log."""
        before, progress, size = _outcome(job.paths), read_progress(job.paths.progress), _size(job.paths.journal)
        process = spawn("ablate.engine.worker", job.assignment().arguments(), job.paths.log, slot)
        worker = cls(job, process, failures, slot, alone, before)
        worker._seen_at, worker._first_progress, worker._journal_size = time.monotonic(), progress, size
        return worker

    def progress(self) -> Progress | None:
        return read_progress(self.job.paths.progress)

    def has_taken(self, steps: int) -> bool:
        """Whether this attempt has come so far; an evaluation counts as more than any step."""
        progress = self.progress()
        if progress is None or progress == self._first_progress:
            return False
        return progress.doing != "train" or max(0, progress.epoch - 1) * progress.steps + progress.step >= steps

    def has_begun(self) -> bool:
        """Whether this attempt has written anything to the journal."""
        return _size(self.job.paths.journal) != self._journal_size

    def ask(self, number: signal.Signals) -> None:
        """Asks it to save and end."""
        if self.asked is None:
            self.asked, self._asked_at = number, time.monotonic()
            self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once, with the processes that load its data."""
        self.process.kill()
        self._sweep()

    def insist(self, grace: float) -> bool:
        """Kills it if it was told to stop, `grace` seconds ago; returns whether it did. After Ctrl-C a person decides."""
        if self._overdue or self.asked in (None, signal.SIGINT) or time.monotonic() - self._asked_at < grace:
            return False
        self._overdue = True
        self.kill()
        return True

    def silent(self, seconds: float) -> bool:
        """Whether nothing has come from it for so long; true once for each such time."""
        seen = tuple(_changed_at(path) for path in (self.job.paths.journal, self.job.paths.progress))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        if time.monotonic() - self._seen_at < seconds:
            return False
        self._seen_at = float("inf")
        return True

    def is_stopped(self) -> bool:
        """Whether somebody stopped the process (SIGSTOP, Ctrl-Z, a debugger)."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in ("T", "t")

    def ended(self) -> Ended:
        """How it ended; an outcome is written for a worker that died without leaving any."""
        self._sweep()
        code = self.process.wait()
        paths = self.job.paths
        try:
            with Lease.acquire(paths.lease, f"run {paths.name}"):
                outcome = _outcome(paths)
                stale = outcome is None or outcome == self.before
                if code == EXIT_HELD and stale:  # it never had the lease
                    return Ended(self.job, outcome, held=True)
                if outcome is None or (stale and code):
                    outcome = self._last_words(code)
                    states.write_outcome(paths, outcome)
        except HeldError:
            return Ended(self.job, None, held=True)
        except OSError as error:  # the disk is full or the folder has gone: the coordinator goes on
            return Ended(self.job, could_not("store how it ended", error))
        return Ended(self.job, outcome)

    def _sweep(self) -> None:
        """A killed worker may leave processes that load data; they would keep its lease."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _last_words(self, code: int) -> Outcome:
        if self._overdue:
            text = "it did not save in time when it was told to stop; it goes on from its last checkpoint"
            return Outcome(State.PAUSED, Reason.KILLED, text)
        if self.asked is not None and code == -self.asked:
            return Outcome(State.PAUSED, Reason.SIGNAL, f"stopped by {self.asked.name} before it began")
        if code < 0:
            message = f"its process was killed by signal {-code}"
            if code == -signal.SIGKILL:
                message += "; often this is the kernel, out of memory (see `dmesg`)"
            return Outcome(State.FAILED, Reason.KILLED, message)
        tail = self.job.paths.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        return Outcome(State.FAILED, Reason.CRASH, f"its process ended with exit code {code}", tail)


def could_not(what: str, error: OSError) -> Outcome:
    """The outcome of a run whose files or process the system refused."""
    if files.is_disk_error(error):
        return Outcome(State.PAUSED, Reason.DISK, f"could not {what}: {error}")
    return Outcome(State.FAILED, Reason.CRASH, f"could not {what}: {error}")


def spawn(module: str, arguments: list[str], log_file: Path, slot: Slot | None = None) -> subprocess.Popen[bytes]:
    """A module as a process that writes to a log, in a session of its own: Ctrl-C reaches the coordinator alone."""
    command = [sys.executable, "-m", module, *arguments]
    log = disk.open_append(log_file)  # never through a symbolic link
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=slot.inherited if slot else (),
            env=worker_environment(),
        )
    finally:
        disk.close(log)


def _outcome(paths: RunPaths) -> Outcome | None:
    try:
        return states.read_outcome(paths)
    except RecordError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
