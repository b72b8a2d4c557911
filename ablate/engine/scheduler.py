"""Trains runs, each in a process of its own, some at a time.

The coordinator opens each run's log, starts its worker, watches its files and stores how it ended if the
worker could not. It holds nothing that matters: kill it, and everything goes on from the run directories.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.engine.progress import Progress, read_progress
from ablate.engine.stop import StopFlag
from ablate.engine.worker import EXIT_HELD, Assignment
from ablate.errors import HeldError
from ablate.runs import states
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths
from ablate.runs.states import Outcome, Reason, State

_POLL = 0.1
_INGEST_EVERY = 1.0
_LOG_TAIL = 2000
_MIRROR_PATIENCE = 20.0
"""Seconds that `ablate run` waits at its end for wandb."""


@dataclass(frozen=True)
class Job:
    """One run to train."""

    paths: RunPaths
    device: str
    threads: int
    cache_dir: Path
    from_scratch: bool = False
    mirrored: bool = False
    """Whether wandb gets a copy."""

    def assignment(self) -> Assignment:
        return Assignment(self.paths.root, self.device, self.threads, self.cache_dir, self.from_scratch)


@dataclass(frozen=True)
class Ended:
    """How a job ended in this invocation; `held` if another process trains the run."""

    job: Job
    outcome: Outcome | None
    held: bool = False


@dataclass
class Watch:
    """What the coordinator tells the screen and the database. All of it may be left out."""

    running: Callable[[Sequence[tuple[Job, Progress | None]], int], None] = lambda active, waiting: None
    ended: Callable[[Ended], None] = lambda ended: None
    journals_grew: Callable[[], None] = lambda: None
    warn: Callable[[str], None] = lambda text: None


@dataclass
class _Worker:
    job: Job
    process: subprocess.Popen[bytes]


@dataclass
class Scheduler:
    """Runs jobs in order, at most `workers` at a time, until all have ended or a stop is asked for."""

    workers: int
    watch: Watch
    stop: StopFlag
    _active: list[_Worker] = field(default_factory=list)
    _ended: list[Ended] = field(default_factory=list)
    _mirrors: list[_Worker] = field(default_factory=list)
    _forwarded: bool = False
    _ingested_at: float = 0.0

    def run(self, jobs: Sequence[Job]) -> list[Ended]:
        """Returns how each job ended; jobs that a stop left waiting are not among them."""
        waiting = list(jobs)
        self.stop.at_once = self._kill
        try:
            while self._active or (waiting and not self.stop):
                while waiting and not self.stop and len(self._active) < self.workers:
                    self._start(waiting.pop(0))
                self._reap()
                self._forward()
                self._tell(len(waiting))
                time.sleep(_POLL)
        finally:
            for worker in self._active:  # only if this process itself failed
                worker.process.terminate()
        self.watch.journals_grew()
        self._wait_for_mirrors()
        return self._ended

    def _start(self, job: Job) -> None:
        process = _spawn("ablate.engine.worker", job.assignment().arguments(), job.paths.log)
        self._active.append(_Worker(job, process))
        if job.mirrored:
            arguments = [str(job.paths.root), "--pid", str(process.pid)]
            self._mirrors.append(_Worker(job, _spawn("ablate.engine.mirror", arguments, job.paths.mirror_log)))

    def _wait_for_mirrors(self) -> None:
        """Gives wandb a moment to finish. What it does not get now, the next attempt or nobody sends: no run waits."""
        deadline = time.monotonic() + _MIRROR_PATIENCE
        for mirror in self._mirrors:
            try:
                code = mirror.process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.watch.warn(f"wandb is still busy with {mirror.job.paths.name}; it goes on in the background")
            else:
                if code:
                    self.watch.warn(f"wandb has no copy of {mirror.job.paths.name}; why: {mirror.job.paths.mirror_log}")

    def _reap(self) -> None:
        for worker in [worker for worker in self._active if worker.process.poll() is not None]:
            self._active.remove(worker)
            ended = _how_it_ended(worker.job, worker.process.returncode)
            self._ended.append(ended)
            self.watch.ended(ended)

    def _forward(self) -> None:
        """The first signal goes to the workers, which finish their step and save."""
        if self.stop.signal is None or self._forwarded:
            return
        self._forwarded = True
        for worker in self._active:
            worker.process.send_signal(self.stop.signal)

    def _kill(self) -> None:
        for worker in self._active:
            worker.process.kill()

    def _tell(self, waiting: int) -> None:
        self.watch.running([(worker.job, read_progress(worker.job.paths.progress)) for worker in self._active], waiting)
        if time.monotonic() - self._ingested_at > _INGEST_EVERY:
            self.watch.journals_grew()
            self._ingested_at = time.monotonic()


def _spawn(module: str, arguments: list[str], log_file: Path) -> subprocess.Popen[bytes]:
    """A module as a process that writes to a log, in a session of its own: Ctrl-C reaches the coordinator alone."""
    command = [sys.executable, "-m", module, *arguments]
    with log_file.open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _how_it_ended(job: Job, code: int) -> Ended:
    """The stored outcome; one is written for a worker that died without leaving any."""
    try:
        with Lease.acquire(job.paths.lease, f"run {job.paths.name}"):
            outcome = states.read_outcome(job.paths)
            if outcome is None:
                outcome = _last_words(job, code)
                states.write_outcome(job.paths, outcome)
    except HeldError:
        return Ended(job, None, held=True)
    if code == EXIT_HELD and outcome.state is not State.PAUSED:
        return Ended(job, outcome, held=True)
    return Ended(job, outcome)


def _last_words(job: Job, code: int) -> Outcome:
    if code < 0:
        message = f"its process was killed by signal {-code}"
        if code == -9:
            message += "; often this is the kernel, out of memory (see `dmesg`)"
        return Outcome(State.FAILED, Reason.KILLED, message)
    tail = job.paths.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
    return Outcome(State.FAILED, Reason.CRASH, f"its process ended with exit code {code}", tail)
