"""A forked process of a campaign is as good as one that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablate.runs import lease, states
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State
from tests.campaign import environment
from tests.campaign.forks import Forks
from tests.campaign.moments import Ground, LedgerReader, holds_lease
from tests.campaign.observe import results
from tests.campaign.studies import Study, toy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs prctl and /proc")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    ground = Ground(tmp_path / "forked")
    ground.root.mkdir()
    return ground


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


def study(ground: Ground, sleep: float = 0.0) -> Study:
    made = toy(ground.root, 1)
    made = Study(made.text.replace("sleep: 0.002", f"sleep: {sleep}"), made.seeds, made.span)
    made.write(ground)
    return made


def wait(forks: Forks, seconds: float = 60) -> dict[int, int]:
    ended: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while forks.left and time.monotonic() < deadline:
        ended |= forks.reap()
        time.sleep(0.01)
    assert not forks.left, "a process is still alive"
    return ended


def until_training(ground: Ground) -> list[RunPaths]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        runs = RunsDir(ground.runs).runs()
        if len(runs) == 4 and all(paths.progress.exists() and lease.is_held(paths.lease) for paths in runs):
            return runs
        time.sleep(0.01)
    raise AssertionError(ground.log.read_text())


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # a container's first process may not collect the dead


def test_it_computes_what_started_processes_compute(forks: Forks, ground: Ground, tmp_path: Path) -> None:
    pid = forks.start("coordinator", "coordinator", ground, *study(ground).command(ground))
    assert wait(forks)[pid] == 0, ground.log.read_text()
    other = Ground(tmp_path / "started")
    other.root.mkdir()
    command = [sys.executable, "-c", "from ablate.cli import main; main()", *study(other).command(other)]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    forked, started = results(ground.runs), results(other.runs)
    assert forked == started
    assert len(forked) == 4


def test_a_dead_coordinator_frees_its_study_and_its_workers_save_and_end(forks: Forks, ground: Ground) -> None:
    pid = forks.start("coordinator", "coordinator", ground, *study(ground, sleep=0.1).command(ground))
    runs = until_training(ground)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
    assert not lease.is_held(ground.runs / "studies" / "campaign.lock"), "a worker has inherited the lease of the study"
    assert wait(forks, 20)[pid] == -signal.SIGKILL
    assert {states.status(paths).state for paths in runs} == {State.PAUSED}
    assert all(list(paths.checkpoints.glob("*.json")) for paths in runs)


def test_the_kernel_knows_who_holds_a_lease(forks: Forks, ground: Ground) -> None:
    coordinator = forks.start("coordinator", "coordinator", ground, *study(ground, sleep=0.1).command(ground))
    until_training(ground)
    workers = [line["pid"] for line in LedgerReader(ground.ledger) if line.get("role") == "worker"]
    assert len(workers) == 4
    for pid in (coordinator, *workers):
        assert holds_lease(pid, ground)
    assert not holds_lease(os.getpid(), ground)
    forks.kill_all([coordinator, *workers])


def test_it_ends_with_the_campaign(ground: Ground) -> None:
    server = Forks()
    pid = server.start("coordinator", "coordinator", ground, *study(ground, sleep=0.1).command(ground))
    until_training(ground)
    server.close()
    deadline = time.monotonic() + 20
    while any(lease.is_held(paths.lease) for paths in RunsDir(ground.runs).runs()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(lease.is_held(paths.lease) for paths in RunsDir(ground.runs).runs())
    assert not is_alive(pid)
