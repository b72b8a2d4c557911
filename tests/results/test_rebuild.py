import os
import shutil

import duckdb
import pytest

from ablate.errors import DatabaseError, HeldError, UsageError
from ablate.results.ingest import ingest
from ablate.results.lock import lock_path
from ablate.results.open import open_results
from ablate.results.rebuild import rebuild


def test_the_views_are_the_same(work, dump):
    a, b = work.run("a"), work.run("b", "bbbbbbbb")
    a.train(3, best=2)
    b.train(2, complete=False)
    ingest(work.db, work.runs_dir)
    b.train(3, start=2)
    gone = work.run("gone")
    gone.train(1)
    ingest(work.db, work.runs_dir)
    shutil.rmtree(gone.paths.root)
    work.study("one", [a, b])
    with open_results(work.db, work.runs_dir) as results:
        before = dump(results)
        assert all(before.values())
    done = rebuild(work.db, work.runs_dir)
    assert (done.runs, done.changed) == (2, 2)
    with open_results(work.db, work.runs_dir) as results:
        assert dump(results) == before
        assert results.rows("SELECT count(DISTINCT source) FROM base.epochs")[1] == [(2,)]
    assert ingest(work.db, work.runs_dir).changed == 0
    assert {path.name for path in work.root.iterdir()} == {"results.duckdb", "results.duckdb.lock", "runs"}


@pytest.mark.parametrize("damage", ["text", "truncate", "none"])
def test_whatever_was_there(work, damage):
    work.run().train(1)
    ingest(work.db, work.runs_dir)
    if damage == "text":
        work.db.write_text("broken")
    elif damage == "truncate":
        os.truncate(work.db, 5000)
    else:
        work.db.unlink()
    done = rebuild(work.db, work.runs_dir)
    assert (done.rebuilt is None) == (damage == "none")
    with open_results(work.db, work.runs_dir) as results:
        assert len(results.epochs(results.runs()[0].run_id)) == 1


def test_foreign_files_are_left_alone(work):
    work.run().train(1)
    work.db.write_text("my notes")
    with pytest.raises(DatabaseError, match="not a DuckDB database"):
        rebuild(work.db, work.runs_dir)
    assert work.db.read_text() == "my notes" and not lock_path(work.db).exists()
    work.db.unlink()
    connection = duckdb.connect(str(work.db))
    connection.execute("CREATE TABLE customers AS SELECT 1 AS n")
    connection.close()
    before = work.db.read_bytes()
    with pytest.raises(DatabaseError, match="holds other tables"):
        rebuild(work.db, work.runs_dir)
    assert work.db.read_bytes() == before


def test_without_runs_nothing_is_lost(work):
    work.run().train(1)
    ingest(work.db, work.runs_dir)
    before = work.db.read_bytes()
    with pytest.raises(UsageError, match="no such folder of runs"):
        rebuild(work.db, work.root / "typo")
    assert work.db.read_bytes() == before


def test_busy(work, hold_in_process):
    work.run().train(1)
    hold_in_process(work.db, "shared")
    with pytest.raises(HeldError, match="in use by"):
        rebuild(work.db, work.runs_dir, wait=0.1)
