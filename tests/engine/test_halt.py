"""Only the very process that a lease names is ever sent a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from ablate.engine import halt
from ablate.engine.halt import Answer
from ablate.runs import lease
from ablate.runs.lease import Holder, Lease


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def named(process: subprocess.Popen[bytes]) -> Holder:
    return replace(lease.this_process(), pid=process.pid, started=lease.process_started(process.pid))


def test_a_process_with_the_same_number_is_left_alone(stranger: Any) -> None:
    holder = named(stranger)
    assert not halt.ask(replace(holder, started=holder.started - 1))
    assert stranger.poll() is None
    assert halt.ask(holder)
    assert stranger.wait(timeout=10) == -signal.SIGTERM
    assert not halt.ask(holder), "gone"


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot": "another boot"}])
def test_a_holder_elsewhere_is_named_and_not_signalled(make_run: Any, stranger: Any, change: dict[str, str]) -> None:
    paths = make_run()
    with Lease.acquire(paths.lease, "the run"):
        paths.lease.write_text(json.dumps(asdict(replace(named(stranger), **change))))
        (found,) = halt.halt([halt.of_run(paths)], 5.0, print)
    assert found.answer is Answer.ELSEWHERE
    assert stranger.poll() is None


def test_a_lease_that_nobody_holds_is_not_looked_at(make_run: Any, stranger: Any) -> None:
    paths = make_run()
    paths.lease.write_text(json.dumps(asdict(named(stranger))))
    assert halt.halt([halt.of_run(paths)], 5.0, print) == []
    assert stranger.poll() is None
