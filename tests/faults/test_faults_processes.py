"""Faults 11, 12, 17-20, 31, 32: locks, leases, clocks and signals."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from ablate.runs import lease, states
from ablate.runs.paths import RunPaths
from ablate.runs.states import Reason, State

STUDY = "study: toys\ntask: toy\nbase: {train: {epochs: 2}}\ngrid: {model.width: [2, 3]}\n"

HOLDERS = {
    "stopped": """
from ablate.results.lock import hold
with hold(Path(sys.argv[1]), exclusive=True, wait=10):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
""",
    "shell": """
import duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE IF NOT EXISTS mine (x INTEGER)")
print("held", flush=True)
time.sleep(100)
""",
}


def held(work: Any, kind: str) -> subprocess.Popen[str]:
    """Another process that has the database: one of ours that was stopped, or somebody's DuckDB shell."""
    code = "import os, signal, sys, time\nfrom pathlib import Path\n" + HOLDERS[kind]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(work.root / "results.duckdb")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    work.processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOLDERS)
def test_fault_11_12_a_database_that_another_process_holds(work: Any, kind: str) -> None:
    """Training does not wait, the report waits two seconds, names the holder and reads the journals."""
    study = work.study(STUDY)
    holder = held(work, kind)
    began = time.monotonic()
    done = work.ablate("run", study)
    assert done.returncode == 0, done.stderr
    report = work.ablate("report")
    assert time.monotonic() - began < 40, "without a holder it takes a few seconds"
    assert report.returncode == 0
    assert len(set(re.findall(r"toy-[23]-[\w.-]+", report.stdout))) == 2
    assert str(holder.pid) in report.stderr
    assert "Read from runs itself" in report.stderr
    holder.kill()
    holder.wait()
    if kind == "stopped":
        assert "up to date" in work.ablate("report").stderr


def test_fault_17_many_resumes_of_one_run_at_once(work: Any, look: Any, calm: Any) -> None:
    paths = work.run(sleep=0.02)
    processes = [work.start(paths) for _ in range(4)]
    codes = sorted(process.wait(timeout=60) for process in processes)
    # A worker that came late found the run complete, or the lease taken; never did two train.
    assert codes[0] == 0 and set(codes) <= {0, 75}
    assert len(look(paths).records("attempt")) == 1
    assert paths.log.read_text().count("nothing to do") + codes.count(75) == 3
    assert look(paths).result() == calm()


def test_fault_18_a_stale_lease_whose_pid_another_process_has_now(work: Any, look: Any) -> None:
    paths = work.run()
    me = lease.this_process()
    innocent = subprocess.Popen(["sleep", "100"], start_new_session=True)
    work.processes.append(innocent)
    claim = {"host": me.host, "pid": innocent.pid, "boot": me.boot, "started": 1, "since": time.time()}
    paths.lease.write_text(json.dumps(claim))
    assert states.status(paths).state is State.QUEUED, "the text is no lock"
    stop = work.ablate("stop", paths.name)
    assert "nothing is running" in stop.stderr
    with paths.lease.open("r") as file:  # held, but by another process than the text says
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        assert work.ablate("stop", paths.name, "--wait", "0.2").returncode == 75
    assert innocent.poll() is None, "a process that only has the number of a dead one was told to stop"
    assert work.train(paths) == 0
    assert states.status(paths).state is State.COMPLETE


CLOCK = """
import time
real, asked = time.time, []
def jumping():
    asked.append(None)
    return real() + {day} * 86400 * (-1) ** (len(asked) // 3)
time.time = jumping
"""


@pytest.mark.parametrize("day", [1, -1])
def test_fault_19_a_clock_that_jumps_by_a_day(work: Any, look: Any, calm: Any, day: int) -> None:
    settings: dict[str, Any] = {"train": {"epochs": 3}}
    paths = work.run(**settings, trouble={"kind": "crash", "step": 10, "once": str(work.root / "once")})
    assert work.train(paths, inject=CLOCK.format(day=day)) == 1
    assert work.train(paths, inject=CLOCK.format(day=-3 * day)) == 0
    found = look(paths)
    records = [record for type_ in ("attempt", "epoch", "evaluation", "event") for record in found.records(type_)]
    records.sort(key=lambda record: record.seq)
    walls = [record.wall for record in records]
    assert walls != sorted(walls), "the clock did jump"
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert [record.attempt for record in records] == sorted(record.attempt for record in records)
    assert all(0 <= record.body["seconds"] < 60 for record in found.records("epoch"))
    assert found.result() == calm(**settings)
    assert states.status(paths).state is State.COMPLETE
    listed = json.loads(work.ablate("ls", "--json").stdout)
    assert [run["status"] for run in listed] == ["complete"]
    assert work.query("SELECT epoch FROM epochs ORDER BY epoch") == [(1,), (2,), (3,)]


def test_fault_20_a_study_that_was_edited_makes_other_runs(work: Any) -> None:
    """What decides a result is part of a run's identity, so no edit can make a run go on as another."""
    study = work.study(STUDY)
    assert work.ablate("run", study, "--only", "model.width=2").returncode == 0
    [root] = (work.root / "runs").glob("toy-*")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "lease.lock"}
    work.study(STUDY.replace("epochs: 2", "epochs: 2, lr: 0.5"))
    rows = json.loads(work.ablate("plan", study, "--json").stdout)
    assert [row["action"] for row in rows] == ["new", "new"]
    assert root.name not in [row["name"] for row in rows]
    refused = work.ablate("resume", root.name, "--from-scratch", "--set", "train.lr=0.5")
    assert refused.returncode == 2
    assert "train.lr would make it another run" in refused.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_fault_31_ctrl_c_twice_ends_the_command_at_once(work: Any, until: Any) -> None:
    study = work.study("study: toys\ntask: toy\nbase: {train: {epochs: 2, checkpoint: {every: 1 steps}}}\n")
    process = work.begin("run", study, "--set", "sleep=0.5")
    [manifest] = until(lambda: list((work.root / "runs").glob("*/checkpoints/000001.json")))
    paths = RunPaths(manifest.parent.parent)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - began < 3
    until(lambda: not lease.is_held(paths.lease), 5)
    assert states.status(paths).state is State.PAUSED
    assert states.status(paths).reason in (Reason.KILLED, Reason.SIGNAL)
    assert work.ablate("run", study).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
def test_fault_32_signals_of_a_cluster_save_within_the_grace_period(
    work: Any, look: Any, until: Any, sent: signal.Signals
) -> None:
    study = work.study("study: toys\ntask: toy\nbase: {train: {epochs: 2}}\n")
    process = work.begin("run", study, "--set", "sleep=0.3")
    paths = RunPaths(until(lambda: next((work.root / "runs").glob("*/progress.json"), None)).parent)
    until(lambda: look(paths).steps() >= 1)
    began = time.monotonic()
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == 75, "so that the cluster puts it back in the queue"
    assert time.monotonic() - began < 10
    assert states.status(paths).reason is Reason.SIGNAL
    assert look(paths).manifest().loop["total_steps"] >= 1, "saved within the epoch"
