"""Real processes that write, read and are killed at the same time (experiments 4 and 12 of the measurements)."""

import random
import time

import pytest

from ablate.results.ingest import ingest
from ablate.results.open import open_results
from ablate.results.rebuild import rebuild
from ablate.runs.journal import Journal

pytestmark = pytest.mark.slow

WRITE = """
import sys
from pathlib import Path
from ablate.results.ingest import ingest
from ablate.runs.journal import Journal
db, runs, journal = map(Path, sys.argv[1:4])
with Journal(journal) as writer:
    writer.attempt = 1
    for epoch in range(1, int(sys.argv[4]) + 1):
        writer.append("epoch", epoch, 0, {"train_loss": epoch / 8})
        assert ingest(db, runs, wait=30) is not None
        print("acknowledged", epoch, flush=True)
"""

INGEST = """
import sys
from pathlib import Path
from ablate.results.ingest import ingest
print("go", flush=True)
while True:
    ingest(Path(sys.argv[1]), Path(sys.argv[2]), wait=5)
"""


def rows(work):
    with open_results(work.db, work.runs_dir) as results:
        return results.rows("SELECT run_id, epoch, train_loss FROM epochs ORDER BY 1, 2")[1]


def stored(work):
    """Rows of the table itself, where a repeated one would show."""
    with open_results(work.db, work.runs_dir) as results:
        return results.rows("SELECT count(*), count(DISTINCT (source, seq)) FROM base.epochs")[1][0]


def test_processes_that_take_turns_lose_and_repeat_nothing(work, start):
    """Experiment 4: with plain `duckdb.connect`, DuckDB 2.0.0 loses acknowledged rows here."""
    runs = [work.run(f"r{number}") for number in range(4)]
    writers = [start(WRITE, work.db, work.runs_dir, run.paths.journal, 10) for run in runs]
    while any(writer.popen.poll() is None for writer in writers):
        with open_results(work.db, work.runs_dir, wait=0.05) as results:  # a report in between
            assert len(results.runs()) == 4
    assert [writer.wait() for writer in writers] == [0] * 4
    assert rows(work) == sorted((run.run_id, epoch, epoch / 8) for run in runs for epoch in range(1, 11))
    assert stored(work) == (40, 40)


def test_killed_ingests_lose_and_repeat_nothing(work, start):
    runs = [work.run(f"r{number}") for number in range(3)]
    pick = random.Random(7)
    epoch = 0
    for _ in range(10):
        process = start(INGEST, work.db, work.runs_dir)
        assert process.line() == "go"
        deadline = time.monotonic() + pick.uniform(0, 0.4)
        while time.monotonic() < deadline:
            epoch += 1
            for run in runs:
                with Journal(run.paths.journal) as journal:
                    journal.append("epoch", epoch, 0, {"train_loss": epoch / 8})
            time.sleep(0.005)
        process.end()
    expected = sorted((run.run_id, number, number / 8) for run in runs for number in range(1, epoch + 1))
    assert rows(work) == expected
    assert stored(work) == (len(expected), len(expected))
    assert not list(work.root.glob("*.corrupt-*"))
    work.db.unlink()
    assert rows(work) == expected


REBUILD = """
import sys
from pathlib import Path
from ablate.results.rebuild import rebuild
print("go", flush=True)
while True:
    rebuild(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_rebuilds_leave_a_whole_database(work, start):
    for number in range(3):
        work.run(f"r{number}").train(3)
    ingest(work.db, work.runs_dir)
    right = rows(work)
    pick = random.Random(8)
    for _ in range(6):
        process = start(REBUILD, work.db, work.runs_dir)
        assert process.line() == "go"
        time.sleep(pick.uniform(0, 0.3))
        process.end()
        assert rows(work) == right
    rebuild(work.db, work.runs_dir)
    assert not list(work.root.glob("*.corrupt-*")) and not list(work.root.glob("*.rebuild*"))


def test_ten_thousand_unchanged_runs_cost_little(work):
    """Fault 42, at a tenth of the size; the time of a real ingest is measured against its own first run."""
    run = work.run()
    run.train(1)
    for number in range(1000):
        folder = work.runs_dir / f"copy-{number:08}"
        folder.mkdir()
        for path in run.paths.root.iterdir():
            text = path.read_text()
            (folder / path.name).write_text(
                text.replace(run.run_id, f"{number:08}") if path.name == "run.json" else text
            )
    began = time.monotonic()
    assert ingest(work.db, work.runs_dir).changed == 1001
    first = time.monotonic() - began
    began = time.monotonic()
    assert ingest(work.db, work.runs_dir).changed == 0
    assert time.monotonic() - began < max(0.5, first / 4)
