"""Trains runs, each in a process of its own, some at a time.

The coordinator opens each run's log, starts its worker, watches its files and stores how it ended if the
worker could not. It holds nothing that matters: kill it, and everything goes on from the run directories.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ablate.engine.canary import Canaries
from ablate.engine.policy import ARCHITECTURE_FAULTS, Breaker, Rules
from ablate.engine.progress import Progress
from ablate.engine.slots import Busy, Pool, Slot
from ablate.engine.stop import StopFlag
from ablate.engine.workers import Ended, Job, Worker, could_not, spawn
from ablate.runs.states import Reason

__all__ = ["Ended", "Halt", "Job", "Scheduler", "Watch"]

_POLL = 0.1
_INGEST_EVERY = 1.0
_LOOK_AGAIN = 0.5
"""Seconds until a busy device is looked at again."""
_SPEAK_AFTER = 3.0
"""Seconds of waiting for a place after which the screen says so."""
_MIRROR_PATIENCE = 20.0
"""Seconds that `ablate run` waits at its end for wandb."""


class Halt(StrEnum):
    """Why no further runs are started, other than by a signal."""

    TIME = "time"
    FAIL_FAST = "fail-fast"
    BREAKER = "breaker"


@dataclass
class Watch:
    """What the coordinator tells the screen and the database. All of it may be left out."""

    running: Callable[[Sequence[tuple[Job, Progress | None]], int], None] = lambda active, waiting: None
    ended: Callable[[Ended], None] = lambda ended: None
    journals_grew: Callable[[], None] = lambda: None
    warn: Callable[[str], None] = lambda text: None
    halted: Callable[[Halt, str], None] = lambda halt, text: None


@dataclass
class _Waiting:
    job: Job
    failures: Counter[Reason] = field(default_factory=Counter)
    not_before: float = 0.0
    alone: bool = False


@dataclass
class Scheduler:
    """Runs jobs in order, at most `workers` at a time (one, if None), until all have ended or a stop is asked for.

    Without a `pool` every job is trained on its own `device`, and no other process is asked. `proven` are the
    architectures that are known to work.
    """

    workers: int | None
    watch: Watch
    stop: StopFlag
    pool: Pool | None = None
    rules: Rules = field(default_factory=Rules)
    proven: frozenset[str] = frozenset()
    _halted: Halt | None = None
    _waiting: list[_Waiting] = field(default_factory=list)
    _active: list[Worker] = field(default_factory=list)
    _ended: list[Ended] = field(default_factory=list)
    _mirrors: list[tuple[Job, subprocess.Popen[bytes]]] = field(default_factory=list)
    _ingested_at: float = 0.0
    _look_at: float = 0.0
    _busy_since: float | None = None

    def __post_init__(self) -> None:
        self._canaries = Canaries(self.proven)
        self._breaker = Breaker(self.rules.breaker)

    @property
    def _stopping(self) -> bool:
        return bool(self.stop) or self._halted is not None

    def run(self, jobs: Sequence[Job]) -> list[Ended]:
        """Returns how each job ended; jobs that were never started are not among them."""
        self._waiting = [_Waiting(job) for job in jobs]
        self.stop.at_once = self._kill
        began = time.monotonic()
        try:
            while self._active or (self._waiting and not self._stopping):
                self._start_some()
                self._reap()
                self._look()
                self._reap_mirrors()
                self._heed(time.monotonic() - began)
                self._tell()
                time.sleep(_POLL)
        finally:
            for worker in self._active:  # only if this process itself failed
                worker.process.terminate()
        self.watch.journals_grew()
        self._wait_for_mirrors()
        return self._ended

    def _start_some(self) -> None:
        now = time.monotonic()
        if now < self._look_at or any(worker.alone for worker in self._active):
            return
        for waiting in sorted(self._waiting, key=lambda waiting: waiting.alone):
            if self._stopping or len(self._active) >= (self.workers or 1) or (waiting.alone and self._active):
                return
            if now < waiting.not_before or not self._may_go_ahead(waiting.job):
                continue
            place = self._place(waiting)
            if isinstance(place, Busy):
                self._look_at = now + _LOOK_AGAIN
                self._speak_of(place, now)
            else:
                self._waiting.remove(waiting)
                self._start(waiting, place)
                if waiting.alone:
                    return

    def _may_go_ahead(self, job: Job) -> bool:
        return self.rules.keep_going or self._canaries.may_start(job.architecture, job.paths.name)

    def _place(self, waiting: _Waiting) -> Slot | Busy | None:
        if self.pool is None:
            return None
        return self.pool.take(waiting.job.memory, waiting.job.paths.name, alone=waiting.alone)

    def _speak_of(self, busy: Busy, now: float) -> None:
        """Once per wait, and only if there is nothing else to see."""
        if self._active:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now
        elif now - self._busy_since > _SPEAK_AFTER:
            self._busy_since = float("inf")
            self.watch.warn(f"waiting for a place: {busy.why}")

    def _start(self, waiting: _Waiting, slot: Slot | None) -> None:
        job = replace(waiting.job, crowded=self._is_crowded(waiting))
        job = replace(job, device=slot.device.name) if slot else job
        self._busy_since = None
        self._canaries.started(job.architecture, job.paths.name)
        try:
            worker = Worker.start(job, slot, waiting.failures, alone=waiting.alone)
        except OSError as error:
            if slot and self.pool:
                slot.hand_over()
                self.pool.give_back(slot)
            self._end(Ended(job, could_not("start its process", error)), tripped=False)
            return
        if slot:
            slot.hand_over()
        self._active.append(worker)
        if job.mirrored:
            arguments = [str(job.paths.root), "--pid", str(worker.process.pid)]
            self._mirrors.append((job, spawn("ablate.engine.mirror", arguments, job.paths.mirror_log)))

    def _is_crowded(self, waiting: _Waiting) -> bool:
        retry = self.rules.retries.get(Reason.OOM)
        may_retry = retry is not None and waiting.failures[Reason.OOM] < len(retry.pauses)
        return (self.workers or 1) > 1 and may_retry and not waiting.alone

    def _reap(self) -> None:
        for worker in [worker for worker in self._active if worker.process.poll() is not None]:
            self._active.remove(worker)
            ended = worker.ended()
            if worker.slot and self.pool:
                self.pool.give_back(worker.slot)
            self._look_at = 0.0
            tripped = not ended.held and self._breaker.ended(ended.job.paths.name, ended.failure)
            tripped = tripped and not self.rules.keep_going
            if tripped or self._stopping or not self._try_again(worker, ended):
                self._end(ended, tripped=tripped)

    def _try_again(self, worker: Worker, ended: Ended) -> bool:
        """Puts a failed run back in the queue if its cause allows a further attempt."""
        reason = ended.failure
        retry = self.rules.retries.get(reason) if reason else None
        if reason is None or retry is None or worker.failures[reason] >= len(retry.pauses):
            return False
        pause = retry.pauses[worker.failures[reason]]
        failures = worker.failures + Counter([reason])
        number = f"retry {failures[reason]} of {len(retry.pauses)} after {reason}"
        job = replace(ended.job, retry=number, from_scratch=ended.job.from_scratch and not worker.has_begun())
        self._waiting.insert(0, _Waiting(job, failures, time.monotonic() + pause, retry.alone))
        message = ((ended.outcome and ended.outcome.message) or "").partition("\n")[0]
        when = f"in {pause:g} s" + (", when it has the device to itself" if retry.alone else "")
        self.watch.warn(f"{'retry':<9} {job.paths.name} ({reason}: {message}): {number}, {when}")
        return True

    def _end(self, ended: Ended, *, tripped: bool) -> None:
        self._ended.append(ended)
        self.watch.ended(ended)
        self._after_canary(ended)
        if ended.failure and self.rules.fail_fast and not self._stopping:
            self._halt(Halt.FAIL_FAST, f"{ended.job.paths.name} failed; with --fail-fast nothing else is trained")
        elif tripped and not self._stopping:
            self._halt(
                Halt.BREAKER,
                f"{self.rules.breaker} runs in a row failed for one cause ({ended.failure}), so no more are started; "
                f"{len(self._waiting)} are left. Mend the cause and run it again, or add --keep-going to try them all",
            )

    def _after_canary(self, ended: Ended) -> None:
        architecture, name = ended.job.architecture, ended.job.paths.name
        if not self._canaries.is_ahead(architecture, name):
            return
        if ended.complete:
            self._canaries.proven(architecture)
            return
        its_fault = ended.failure in ARCHITECTURE_FAULTS and not self.rules.keep_going
        self._canaries.failed(architecture, its_fault=its_fault)
        if its_fault:
            left = [waiting for waiting in self._waiting if waiting.job.architecture == architecture]
            self._waiting = [waiting for waiting in self._waiting if waiting not in left]
            if left:
                self.watch.warn(
                    f"{len(left)} more run{'s' if len(left) > 1 else ''} with the model of {name} not started, because "
                    "it failed in its first steps; --keep-going tries them anyway"
                )

    def _look(self) -> None:
        """Lets the others follow a run that went ahead, and speaks of workers that went silent."""
        for worker in self._active:
            job = worker.job
            ahead = self._canaries.is_ahead(job.architecture, job.paths.name)
            if ahead and worker.has_taken(self.rules.canary_steps):
                self._canaries.proven(job.architecture)
            if self.rules.stall is not None and worker.silent(self.rules.stall):
                self.watch.warn(_silence(worker, self.rules.stall))

    def _heed(self, elapsed: float) -> None:
        """Signals go to the workers, which finish their step and save; the time limit does the same."""
        if self.rules.max_seconds is not None and elapsed > self.rules.max_seconds and not self._stopping:
            self._halt(Halt.TIME, f"the time is up (--max-hours {self.rules.max_seconds / 3600:g})")
        for worker in self._active:
            if self.stop.signal is not None:
                worker.ask(self.stop.signal)
            if worker.insist(self.rules.grace):
                self.watch.warn(f"{worker.job.paths.name} did not save within {self.rules.grace:g} s and was ended")

    def _halt(self, halt: Halt, text: str) -> None:
        self._halted = halt
        self.watch.halted(halt, text)
        for worker in self._active if halt is not Halt.BREAKER else []:
            worker.ask(signal.SIGTERM)

    def _kill(self) -> None:
        for worker in self._active:
            worker.kill()

    def _tell(self) -> None:
        self.watch.running([(worker.job, worker.progress()) for worker in self._active], len(self._waiting))
        if time.monotonic() - self._ingested_at > _INGEST_EVERY:
            self.watch.journals_grew()
            self._ingested_at = time.monotonic()

    def _reap_mirrors(self) -> None:
        """Says which have failed, so that nothing is left of those that ended."""
        ended = [(job, code) for job, process in self._mirrors if (code := process.poll()) is not None]
        self._mirrors = [(job, process) for job, process in self._mirrors if process.returncode is None]
        for job, code in ended:
            if code:
                self.watch.warn(
                    f"wandb has no copy of {job.paths.name}; `ablate wandb sync {job.paths.name}` sends it later; "
                    f"why: {job.paths.mirror_log}"
                )

    def _wait_for_mirrors(self) -> None:
        """Gives wandb a moment to finish. What it does not get now, `ablate wandb sync` sends: no run waits."""
        deadline = time.monotonic() + _MIRROR_PATIENCE
        for job, process in self._mirrors:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.watch.warn(f"wandb is still busy with {job.paths.name}; it goes on in the background")
        self._reap_mirrors()


def _silence(worker: Worker, seconds: float) -> str:
    name, pid = worker.job.paths.name, worker.process.pid
    said = f"{name} shows no progress for {seconds / 60:g} minutes"
    if worker.is_stopped():
        return f"{said}: its process {pid} is stopped; `kill -CONT {pid}` lets it go on"
    return (
        f"{said}: its process {pid} may hang; see {worker.job.paths.log}, end it with `kill -KILL {pid}`: it is resumed"
    )
