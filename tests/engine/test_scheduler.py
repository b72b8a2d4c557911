"""The scheduler with real workers: order, retries, canaries, the circuit breaker, time, grace and places."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ablate.engine.devices import Device
from ablate.engine.policy import Breaker, Retry, Rules, limited
from ablate.engine.scheduler import Ended, Halt, Job, Scheduler, Watch
from ablate.engine.slots import Pool, Slot, Slots
from ablate.engine.stop import StopFlag
from ablate.runs import journal, lease, states
from ablate.runs.paths import RunPaths
from ablate.runs.states import Reason, State

SHORT = {"train": {"epochs": 1}}
QUICK = {
    Reason.KILLED: Retry((0.1, 0.1)),
    Reason.OOM: Retry((0.1,), alone=True),
    Reason.CRASH: Retry((0.1,)),
}


@dataclass
class Bench:
    """A scheduler and everything that it said."""

    make_run: Callable[..., RunPaths]
    stop: StopFlag = field(default_factory=StopFlag)
    said: list[str] = field(default_factory=list)
    halts: list[Halt] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    together: list[set[str]] = field(default_factory=list)
    during: Callable[[Sequence[Job]], None] = lambda jobs: None

    def job(self, name: str, architecture: str = "", memory: int = 0, **config: Any) -> Job:
        paths = self.make_run(name.ljust(8, "x"), **{**SHORT, **config})
        return Job(paths, "cpu", 1, paths.root.parent / ".cache", architecture=architecture, memory=memory)

    def run(
        self, jobs: Sequence[Job], workers: int = 1, pool: Pool | None = None, proven: str = "", **rules: Any
    ) -> dict[str, Ended]:
        watch = Watch(self._running, warn=self.said.append, halted=self._halted)
        rules = {"retries": QUICK, **rules}
        scheduler = Scheduler(workers, watch, self.stop, pool, Rules(**rules), frozenset(filter(None, [proven])))
        return {_short(ended.job): ended for ended in scheduler.run(jobs)}

    def _running(self, active: Sequence[tuple[Job, Any]], waiting: int) -> None:
        names = {_short(job) for job, _ in active}
        self.starts += sorted(names - (self.together[-1] if self.together else set()))
        self.together.append(names)
        self.during([job for job, _ in active])

    def _halted(self, halt: Halt, text: str) -> None:
        self.halts.append(halt)
        self.said.append(text)


def _short(job: Job) -> str:
    return job.paths.name.rstrip("x")


@pytest.fixture
def bench(make_run: Callable[..., RunPaths]) -> Bench:
    return Bench(make_run)


def attempts(ended: Ended) -> list[dict[str, Any]]:
    records = (line.record for line in journal.read(ended.job.paths.journal))
    return [dict(record.body) for record in records if record.type == "attempt"]


def state(ended: Ended) -> tuple[State | None, Reason | None]:
    return (ended.outcome.state, ended.outcome.reason) if ended.outcome else (None, None)


def test_jobs_are_trained_in_order_and_no_more_than_allowed_at_a_time(bench: Bench) -> None:
    ended = bench.run([bench.job(name) for name in "bacd"], workers=2)
    assert all(one.complete for one in ended.values())
    assert max(len(names) for names in bench.together) == 2
    assert set(bench.starts[:2]) == {"a", "b"}


def test_each_cause_has_its_retries_and_they_are_recorded(bench: Bench, tmp_path: Path) -> None:
    jobs = [bench.job(kind, trouble={"kind": kind, "step": 2}) for kind in ("kill", "crash", "nan", "data", "disk")]
    ended = bench.run(jobs, workers=2, breaker=99)
    assert {name: len(attempts(one)) for name, one in ended.items()} == {
        "kill": 3,
        "crash": 2,
        "nan": 1,
        "data": 1,
        "disk": 1,
    }
    assert state(ended["kill"]) == (State.FAILED, Reason.KILLED)
    assert state(ended["disk"]) == (State.PAUSED, Reason.DISK)
    assert [attempt.get("retry") for attempt in attempts(ended["kill"])] == [
        None,
        "retry 1 of 2 after killed",
        "retry 2 of 2 after killed",
    ]
    assert sum("retry 1 of 1 after crash, in 0.1 s" in text for text in bench.said) == 1


def test_a_run_that_was_killed_once_is_resumed_and_completes(bench: Bench, tmp_path: Path) -> None:
    trouble = {"kind": "kill", "step": 6, "once": str(tmp_path / "once")}
    ended = bench.run([bench.job("a", train={"epochs": 2}, trouble=trouble)])
    assert ended["a"].complete
    assert [attempt["resumed_from"] for attempt in attempts(ended["a"])] == [None, {"stage": 0, "epoch": 2, "step": 0}]


def test_from_scratch_is_from_scratch_once(bench: Bench, tmp_path: Path) -> None:
    trouble = {"kind": "crash", "step": 6, "once": str(tmp_path / "once")}
    job = replace(bench.job("a", train={"epochs": 2}, trouble=trouble), from_scratch=True)
    ended = bench.run([job])
    assert ended["a"].complete
    assert attempts(ended["a"])[1]["resumed_from"] is not None


def test_out_of_memory_is_tried_again_when_nothing_else_is_trained(bench: Bench, tmp_path: Path) -> None:
    jobs = [bench.job("oom", trouble={"kind": "oom", "step": 1, "once": str(tmp_path / "once")})]
    jobs += [bench.job(name, sleep=0.02) for name in "abc"]
    ended = bench.run(jobs, workers=2)
    assert all(one.complete for one in ended.values())
    assert bench.starts[-1] == "oom"
    assert len(attempts(ended["oom"])) == 2
    last = len(bench.together) - 1
    while "oom" in bench.together[last] or not bench.together[last]:
        assert len(bench.together[last]) <= 1
        last -= 1


def test_the_table_of_retries_can_be_cut() -> None:
    assert {reason: len(retry.pauses) for reason, retry in limited(None).items()} == {
        Reason.KILLED: 3,
        Reason.OOM: 1,
        Reason.CRASH: 1,
    }
    assert limited(1)[Reason.KILLED].pauses == (5.0,)
    assert not any(retry.pauses for retry in limited(0).values())


def test_a_canary_goes_ahead_of_the_runs_with_its_model(bench: Bench) -> None:
    jobs = [bench.job(f"{model}{number}", model, sleep=0.15) for model in "ab" for number in (1, 2)]
    ended = bench.run(jobs, workers=4)
    assert all(one.complete for one in ended.values())
    assert set(bench.starts[:2]) == {"a1", "b1"}
    assert {"a1", "a2"} in [names & {"a1", "a2"} for names in bench.together], "the rest does not wait for its end"


def test_a_model_that_is_known_to_work_needs_no_canary(bench: Bench) -> None:
    bench.run([bench.job("a1", "a", sleep=0.1), bench.job("a2", "a", sleep=0.1)], workers=2, proven="a")
    assert {"a1", "a2"} == bench.together[0]


def test_when_the_canary_fails_the_others_stay_where_they_are(bench: Bench) -> None:
    jobs = [bench.job("a1", "a", trouble={"kind": "crash", "step": 1}), bench.job("a2", "a"), bench.job("b1", "b")]
    ended = bench.run(jobs, workers=3)
    assert set(ended) == {"a1", "b1"}
    assert ended["b1"].complete
    assert len(attempts(ended["a1"])) == 2
    assert not jobs[1].paths.journal.exists()
    assert any(text.startswith("1 more run with the model of a1") and "--keep-going" in text for text in bench.said)


def test_keep_going_tries_them_all(bench: Bench) -> None:
    trouble = {"kind": "crash", "step": 1}
    jobs = [bench.job(f"a{number}", "a", trouble=trouble) for number in range(4)]
    ended = bench.run(jobs, workers=2, keep_going=True, retries={})
    assert len(ended) == 4
    assert bench.halts == []


def test_a_canary_that_diverged_says_nothing_of_the_model(bench: Bench) -> None:
    jobs = [bench.job("a1", "a", trouble={"kind": "nan", "step": 1}), bench.job("a2", "a"), bench.job("a3", "a")]
    ended = bench.run(jobs, workers=3)
    assert [ended[name].complete for name in ("a1", "a2", "a3")] == [False, True, True]
    assert not any({"a1", "a2"} <= names or {"a1", "a3"} <= names for names in bench.together)


def test_three_runs_in_a_row_that_fail_for_one_cause_are_enough(bench: Bench) -> None:
    jobs = [bench.job(f"a{number}", trouble={"kind": "data", "step": 1}) for number in range(5)]
    ended = bench.run(jobs)
    assert len(ended) == 3
    assert bench.halts == [Halt.BREAKER]
    assert any("3 runs in a row failed for one cause (data)" in text and "2 are left" in text for text in bench.said)


def test_what_the_breaker_counts() -> None:
    breaker = Breaker(3)
    assert not breaker.ended("a", Reason.CRASH)
    assert not breaker.ended("a", Reason.CRASH), "one run is one run, however often it is tried"
    assert not breaker.ended("b", Reason.CRASH)
    assert not breaker.ended("c", Reason.DIVERGED)
    assert not breaker.ended("d", Reason.OOM), "another cause"
    assert not breaker.ended("e", Reason.OOM)
    assert not breaker.ended("f", None), "one that completed"
    assert not breaker.ended("g", Reason.OOM)
    assert not breaker.ended("h", Reason.OOM)
    assert breaker.ended("i", Reason.OOM)


def test_fail_fast_saves_what_is_running(bench: Bench) -> None:
    jobs = [bench.job("long", sleep=0.3, train={"epochs": 50}), bench.job("bad", trouble={"kind": "data", "step": 1})]
    jobs += [bench.job("never")]
    ended = bench.run(jobs, workers=2, fail_fast=True)
    assert bench.halts == [Halt.FAIL_FAST]
    assert state(ended["long"]) == (State.PAUSED, Reason.SIGNAL)
    assert "never" not in ended


def test_time_is_up(bench: Bench) -> None:
    jobs = [bench.job("long", sleep=0.1, train={"epochs": 100}), bench.job("never")]
    begin = time.monotonic()
    ended = bench.run(jobs, max_seconds=1.5)
    assert time.monotonic() - begin < 15
    assert bench.halts == [Halt.TIME]
    assert state(ended["long"]) == (State.PAUSED, Reason.SIGNAL)
    assert set(ended) == {"long"}
    assert bench.run([jobs[0]], max_seconds=1.2)["long"].outcome is not None
    assert attempts(ended["long"])[-1]["resumed_from"] is not None


def test_a_worker_that_does_not_save_in_time_is_ended(bench: Bench) -> None:
    def stop_it(jobs: Sequence[Job]) -> None:
        if jobs and jobs[0].paths.progress.exists() and not bench.stop:
            holder = lease.holder(jobs[0].paths.lease)
            assert holder is not None
            os.kill(holder.pid, signal.SIGSTOP)
            bench.stop.signal = signal.SIGTERM

    bench.during = stop_it
    ended = bench.run([bench.job("a", sleep=0.1, train={"epochs": 50})], grace=0.5)
    assert state(ended["a"]) == (State.PAUSED, Reason.KILLED)
    assert any("did not save within 0.5 s" in text for text in bench.said)


def test_a_stop_before_a_worker_began_is_no_failure(bench: Bench) -> None:
    def stop_it(jobs: Sequence[Job]) -> None:
        bench.stop.signal = signal.SIGTERM

    bench.during = stop_it
    job = bench.job("a", trouble={"kind": "data", "step": 1})
    states.write_outcome(job.paths, states.Outcome(State.FAILED, Reason.CRASH, "from before"))
    ended = bench.run([job])
    assert state(ended["a"]) == (State.PAUSED, Reason.SIGNAL)
    assert not job.paths.journal.exists()


def test_silence_is_spoken_of_once(bench: Bench) -> None:
    stopped: list[int] = []

    def stop_it(jobs: Sequence[Job]) -> None:
        if jobs and jobs[0].paths.progress.exists() and not stopped and (holder := lease.holder(jobs[0].paths.lease)):
            stopped.append(holder.pid)
            os.kill(holder.pid, signal.SIGSTOP)
        if jobs and stopped and bench.said:
            os.kill(stopped[0], signal.SIGCONT)

    bench.during = stop_it
    ended = bench.run([bench.job("a", sleep=0.05)], stall=1.0)
    assert ended["a"].complete
    assert len(bench.said) == 1
    assert f"its process {stopped[0]} is stopped; `kill -CONT {stopped[0]}`" in bench.said[0]


def test_a_run_that_another_process_trains_is_held(bench: Bench) -> None:
    job = bench.job("a")
    with lease.Lease.acquire(job.paths.lease, "the run"):
        ended = bench.run([job, bench.job("b")])
    assert ended["a"].held
    assert ended["b"].complete


def test_a_run_directory_that_vanished_does_not_stop_the_others(bench: Bench) -> None:
    job = bench.job("a")
    job.paths.root.rename(job.paths.root.with_name("elsewhere"))
    ended = bench.run([job, bench.job("b")], retries={})
    assert state(ended["a"]) == (State.FAILED, Reason.CRASH)
    assert ended["b"].complete


def test_places_are_shared_with_other_processes(bench: Bench, tmp_path: Path) -> None:
    slots = Slots(tmp_path / "devices")
    device = Device("cpu", "cpu", 10**10)
    pool = Pool.of((device,), 2, 1, slots)
    other = slots.take(device, 1, 0, "another run")
    assert isinstance(other, Slot)
    begin = time.monotonic()

    def free_it(jobs: Sequence[Job]) -> None:
        if not jobs and time.monotonic() - begin > 4.5 and other.descriptor is not None and bench.said:
            os.close(other.descriptor)
            object.__setattr__(other, "descriptor", None)

    bench.during = free_it
    ended = bench.run([bench.job("a"), bench.job("b")], workers=2, pool=pool)
    assert all(one.complete for one in ended.values())
    assert bench.said == [f"waiting for a place: cpu has 1 of 1 places taken: another run (of process {os.getpid()})"]
    assert max(len(names) for names in bench.together) == 1
    assert [attempt["device"] for attempt in attempts(ended["a"])] == ["cpu"]
    assert not list((tmp_path / "devices").rglob("*.slot")) or isinstance(slots.take(device, 1, 0, "x"), Slot)


def test_reservations_keep_runs_apart(bench: Bench, tmp_path: Path) -> None:
    pool = Pool.of((Device("gpu", "gpu", 10**10),), 3, None, Slots(tmp_path / "devices"))
    jobs = [bench.job("a", memory=6 * 10**9, sleep=0.05), bench.job("b", memory=6 * 10**9, sleep=0.05)]
    jobs += [bench.job("c", memory=4 * 10**9, sleep=0.05)]
    ended = bench.run(jobs, workers=3, pool=pool)
    assert all(one.complete for one in ended.values())
    assert not any({"a", "b"} <= names for names in bench.together)
    assert any({"a", "c"} == names for names in bench.together), "a smaller one goes past one that does not fit"


COORDINATOR = """
import sys
from pathlib import Path
from ablate.engine.scheduler import Job, Scheduler, Watch
from ablate.engine.stop import StopFlag
from ablate.runs.paths import RunPaths


def running(active, waiting):
    print(*(job.paths.name for job, _ in active), flush=True)

jobs = [Job(RunPaths(Path(name)), "cpu", 1, Path(name)) for name in sys.argv[1:]]
Scheduler(len(jobs), Watch(running), StopFlag()).run(jobs)
"""


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3])
def test_no_worker_outlives_a_coordinator_killed_right_after_it_was_started(bench: Bench, wait: float) -> None:
    jobs = [bench.job(name, sleep=0.2, train={"epochs": 1000}) for name in "abc"]
    command = [sys.executable, "-c", COORDINATOR, *(str(job.paths.root) for job in jobs)]
    coordinator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert coordinator.stdout is not None
    assert coordinator.stdout.readline()  # all three are started
    time.sleep(wait)
    coordinator.kill()
    coordinator.communicate()
    deadline = time.monotonic() + 20
    while living := [job for job in jobs if _living(job)]:
        assert time.monotonic() < deadline, living
        time.sleep(0.05)


def _living(job: Job) -> list[str]:
    """Processes that have the run directory on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ablate.engine.worker" in words and str(job.paths.root).encode() in words:
            found.append(path.parent.name)
    return found
