"""`ablate sql` under kills, beside writers, and on damaged files: real processes, real files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

STUDY = "study: toys\ntask: toy\nbase: {train: {epochs: 2}}\ngrid: {model.width: [2, 3]}\n"
FOREVER = "SELECT count(*) FROM range(1000000000000) t(i), runs WHERE i * i % 7 = 8"
SPILLS = "SELECT i, md5(CAST(i AS VARCHAR)) FROM range(3000000) t(i), runs ORDER BY 2"


def csv_of(work: Any, sql: str) -> str:
    done = work.ablate("sql", sql, "--format", "csv")
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def is_shared(db: Path) -> bool:
    """Whether a reader has the database open now."""
    import fcntl

    with db.with_name(db.name + ".lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def trained(work: Any) -> Any:
    assert work.ablate("run", work.study(STUDY)).returncode == 0
    return work


def test_a_killed_question_changes_nothing(trained: Any, until: Any) -> None:
    """SIGKILL in the midst of questions: the file stays as it was, byte by byte, and nobody is kept waiting."""
    everything = "SELECT * FROM leaderboard ORDER BY ALL"
    right = csv_of(trained, everything)
    db = trained.root / "results.duckdb"
    before, files = db.read_bytes(), sorted(trained.root.iterdir())
    for query in (FOREVER, SPILLS):
        process = trained.begin("sql", query)
        until(lambda: is_shared(db))
        time.sleep(0.5)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert (db.read_bytes(), sorted(trained.root.iterdir())) == (before, files)
    assert csv_of(trained, everything) == right
    assert trained.ablate("db", "verify").returncode == 0


def test_a_kill_while_the_question_takes_in_what_is_new(trained: Any) -> None:
    """At any moment from the first write to the answer: the next one has every row, once."""
    right = csv_of(trained, "SELECT * FROM evaluations ORDER BY ALL")
    db = trained.root / "results.duckdb"
    for delay in (0.6, 0.8, 1.0, 1.3):
        db.unlink(missing_ok=True)
        process = trained.begin("sql", "SELECT * FROM leaderboard")
        time.sleep(delay)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert csv_of(trained, "SELECT * FROM evaluations ORDER BY ALL") == right
        assert trained.ablate("db", "verify").returncode == 0


def test_questions_beside_a_study_that_trains(trained: Any) -> None:
    """None fails, none sees a run twice, training does not wait, and the database holds all of it in the end."""
    study = trained.study(STUDY.replace("[2, 3]", "[2, 3, 4, 5, 6]").replace("epochs: 2", "epochs: 6"))
    process = trained.begin("run", study, "--set", "sleep=0.02", "--workers", "2")
    answers = []
    while process.poll() is None:
        done = trained.ablate("sql", "SELECT count(*), count(DISTINCT run_id) FROM leaderboard", "--format", "csv")
        assert done.returncode == 0, done.stderr
        answers.append(re.findall(r"\d+", done.stdout.splitlines()[1]))
    assert process.returncode == 0 and len(answers) > 1
    assert all(rows == runs for rows, runs in answers), answers
    assert csv_of(trained, "SELECT DISTINCT status FROM leaderboard WHERE study = 'toys'").split() == [
        "status", "complete"
    ]  # fmt: skip
    assert trained.ablate("db", "verify").returncode == 0


def test_a_long_question_keeps_no_writer_out(trained: Any, until: Any) -> None:
    """While it is computed, others go on and say what they lack; while its answer waits for a pager, they have it all."""
    db = trained.root / "results.duckdb"
    process = trained.begin("sql", FOREVER)
    until(lambda: is_shared(db))
    done = trained.ablate("run", trained.study(STUDY.replace("[2, 3]", "[7]")))
    assert done.returncode == 0, done.stderr
    assert process.poll() is None
    report = trained.ablate("report")
    assert report.returncode == 0 and "Shown is what was known at" in report.stderr
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "toy-7" in trained.ablate("report").stdout
    command = [sys.executable, "-c", "from ablate.cli import main; main()", "sql", "SELECT repeat('x', 1000000) AS x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=trained.root, env=os.environ) as pager:
        assert pager.stdout is not None and pager.stdout.read(10)
        assert not is_shared(db)
        pager.stdout.read()


def test_a_full_disk_and_a_damaged_database(trained: Any, small_disk: Any) -> None:
    """Neither costs an answer: what cannot be brought up to date is read from the runs."""
    right = csv_of(trained, "SELECT run_id, abs_rel FROM leaderboard ORDER BY ALL")
    db = trained.root / "results.duckdb"
    db.write_bytes(b"damaged" * 1000)
    assert csv_of(trained, "SELECT run_id, abs_rel FROM leaderboard ORDER BY ALL") == right
    small_disk.fill()
    place = str(small_disk.root / "results.duckdb")
    done = trained.ablate(
        "sql", "SELECT run_id, abs_rel FROM leaderboard ORDER BY ALL", "--format", "csv", "--db", place
    )
    assert (done.returncode, done.stdout) == (0, right), done.stderr
