from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.errors import HeldError
from ablate.runs import lease
from ablate.runs.lease import Lease

HOLD = """
import sys, time
from pathlib import Path
from ablate.runs.lease import Lease
held = Lease.acquire(Path(sys.argv[1]), "the run")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease.lock"


def hold(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_second_process_is_told_who_holds_it(path: Path) -> None:
    process = hold(path)
    try:
        with pytest.raises(HeldError, match=rf"run x is held by process {process.pid} on .+ since 20\d\d-"):
            Lease.acquire(path, "run x")
        assert lease.is_held(path)
        holder = lease.holder(path)
        assert holder is not None
        assert holder.started == lease.process_started(process.pid) > 0
    finally:
        end(process)


def test_a_killed_holder_leaves_nothing_to_clean(path: Path) -> None:
    end(hold(path))
    assert not lease.is_held(path)
    assert lease.holder(path) is None
    with Lease.acquire(path, "run x"):
        holder = lease.holder(path)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert not lease.is_held(path)


def test_a_child_that_outlives_the_holder_does_not_keep_it(path: Path) -> None:
    with Lease.acquire(path, "run x"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        assert not lease.is_held(path)
    finally:
        child.kill()
        child.wait()


def test_asking_does_not_disturb_whoever_acquires(path: Path) -> None:
    path.touch()
    for _ in range(50):
        assert not lease.is_held(path)
        with Lease.acquire(path, "run x"):
            assert lease.is_held(path)


def test_no_file_is_not_held(path: Path) -> None:
    assert not lease.is_held(path)
    assert not path.exists()
