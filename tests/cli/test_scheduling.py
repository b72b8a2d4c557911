"""How `ablate run` schedules, as a user sees it: devices, order, deferred cells, time, failures, two at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest


def study(text: str) -> None:
    Path("s.yaml").write_text(f"study: s\ntask: toy\n{text}")


def ended(stderr: str) -> list[str]:
    """Names of completed runs, in order, without their ids."""
    return re.findall(r"^complete +toy-(\S+)-\w{8}$", stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "cuda:77"), "--device cuda:77: "),
        (("--device", "gpu"), "expected cpu, cuda, cuda:1, mps or auto"),
        (("--device", "cpu,cpu"), "cpu is named twice"),
        (("--per-device", "0"), "per-device"),
        (("--order", "random"), "expected one of priority, declared, cheapest"),
        (("--fail-fast", "--keep-going"), "exclude each other"),
        (("--max-hours", "nan"), "--max-hours"),
        (("--stall", "inf"), "finite"),
        (("--set", "train.epochs=1", "--device", "cuda:77"), "--device cuda:77: "),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(ablate, toys, options, words) -> None:
    done = ablate("run", "toys.yaml", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["toys.yaml"]


def test_a_reservation_that_fits_no_device_is_refused(ablate, tmp_path) -> None:
    study("resources: {memory: 900TB}\n")
    done = ablate("run", "s.yaml")
    assert done.returncode == 2
    assert "reserves 900 TB" in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["s.yaml"]


def test_priorities_order_and_deferred_cells(ablate, tmp_path) -> None:
    study(
        "base: {train: {epochs: 1}}\ngrid: {model.width: [2, 3, 4, 5]}\n"
        "priority: [{match: {model.width: 4}, value: 2}, {match: {model.width: [3, 5]}, value: 1}]\n"
        "defer: [{match: {model.width: 5}, reason: 'needs [bold] a bigger machine'}]\n"
    )
    plan = {row["settings"]["model.width"]: row for row in json.loads(ablate("plan", "s.yaml", "--json").stdout)}
    assert [plan[width]["action"] for width in (2, 3, 4, 5)] == ["new", "new", "new", "deferred"]
    assert plan[5]["why"] == "needs [bold] a bigger machine"
    assert "deferred: needs [bold] a bigger machine" in ablate("plan", "s.yaml").stdout

    done = ablate("run", "s.yaml")
    assert done.returncode == 0
    assert ended(done.stderr) == ["4-lr0.1", "3-lr0.1", "2-lr0.1"]
    assert "deferred  1 cell: needs [bold] a bigger machine" in done.stderr
    assert ended(ablate("run", "s.yaml", "--deferred").stderr) == ["5-lr0.1"]
    assert "all 4 runs are complete" in ablate("run", "s.yaml").stderr, "what is done is not deferred"

    other = ("--runs-dir", "other", "--db", "other.duckdb")
    assert ended(ablate("run", "s.yaml", "--order", "declared", *other).stderr) == ["2-lr0.1", "3-lr0.1", "4-lr0.1"]


def test_the_cheapest_first(ablate, tmp_path) -> None:
    study("base: {train: {epochs: 2}}\nzip: {model.width: [4, 3, 2], data.n: [4, 16, 8]}\n")
    assert ended(ablate("run", "s.yaml", "--order", "cheapest").stderr) == ["4-lr0.1", "2-lr0.1", "3-lr0.1"]


def test_max_hours_saves_and_asks_to_be_requeued(ablate, toys) -> None:
    done = ablate("run", "toys.yaml", "--set", "sleep=0.2", "--max-hours", "0.0003")
    assert done.returncode == 75
    assert "the time is up (--max-hours 0.0003)" in done.stderr
    assert "To go on: ablate run toys.yaml" in done.stderr
    assert "paused" in done.stderr
    assert ablate("run", "toys.yaml").returncode == 0


def test_the_breaker_says_why_and_how_to_go_on(ablate, tmp_path) -> None:
    study("base: {trouble: {kind: crash}}\ngrid: {model.width: [2, 3, 4, 5, 6]}\n")
    done = ablate("run", "s.yaml", "--retries", "0")
    assert done.returncode == 1
    assert "3 runs in a row failed for one cause (crash), so no more are started; 2 are left" in done.stderr
    assert "To go on: ablate run s.yaml --retries 0" in done.stderr
    assert json.loads(ablate("status", "--json").stdout)[0]["queued"] == 2
    done = ablate("run", "s.yaml", "--retries", "0", "--keep-going")
    assert done.returncode == 1
    assert "5 of 5 runs did not complete" in done.stderr


def test_fail_fast_stops_at_the_first(ablate, tmp_path) -> None:
    study("base: {trouble: {kind: data}}\ngrid: {model.width: [2, 3, 4]}\n")
    done = ablate("run", "s.yaml", "--fail-fast")
    assert done.returncode == 1
    assert "with --fail-fast nothing else is trained" in done.stderr
    assert json.loads(ablate("status", "--json").stdout)[0]["queued"] == 2


def test_a_model_that_does_not_work_costs_one_run(ablate, tmp_path) -> None:
    study("base: {trouble: {kind: oom}}\ngrid: {train.lr: [1e-1, 1e-2, 1e-3]}\n")
    done = ablate("run", "s.yaml", "--retries", "0", "--workers", "3")
    assert done.returncode == 1
    assert "2 more runs with the model of toy-3-lr0.1-" in done.stderr
    assert json.loads(ablate("status", "--json").stdout)[0]["queued"] == 2


def test_a_retry_is_recorded_and_reported(ablate, tmp_path) -> None:
    study(f"base: {{train: {{epochs: 2}}, trouble: {{kind: crash, step: 6, once: {tmp_path}/once}}}}\n")
    done = ablate("run", "s.yaml")
    assert done.returncode == 0
    assert "retry 1 of 1 after crash, in 1 s" in done.stderr
    journal = next(Path("runs").glob("toy-*/journal.jsonl")).read_text()
    assert '"retry": "retry 1 of 1 after crash"' in journal or '"retry":"retry 1 of 1 after crash"' in journal
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'results.duckdb' AS r (TYPE duckdb, READ_ONLY)")
        assert connection.execute("SELECT count(*) FROM r.base.attempts").fetchall() == [(2,)]


@pytest.mark.slow
def test_two_commands_share_a_device(ablate, toys, tmp_path) -> None:
    """With --per-device 1 there is one run at a time on the machine, whoever started it, and a killed command frees it."""
    env = {"TMPDIR": str(tmp_path)}
    Path("other.yaml").write_text(toys.read_text().replace("study: toys", "study: other"))
    command = [sys.executable, "-c", "from ablate.cli import main; main()", "run", "toys.yaml", "--per-device", "1"]
    command += ["--set", "sleep=0.1", "--set", "train.epochs=100"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | env) as first:
        while not list(Path("runs").glob("*/progress.json")):
            time.sleep(0.02)
        waiting = ablate("run", "other.yaml", "--per-device", "1", "--max-hours", "0.0015", env=env)
        assert waiting.returncode == 75
        assert re.search(
            r"waiting for a place: cpu has 1 of 1 places taken: toy-\S+ \(of process \d+\)", waiting.stderr
        )
        assert ended(waiting.stderr) == []
        free = ablate("run", "other.yaml", "--only", "model.width=2", env=env)
        assert len(ended(free.stderr)) == 2, "the CPU is shared freely unless asked otherwise"
        first.kill()
        first.communicate()
    assert ablate("run", "other.yaml", "--per-device", "1", env=env).returncode == 0
