"""What becomes of files that are damaged, too new or somebody else's (faults 11 to 15)."""

import json
import os
import random
import shutil
import struct

import duckdb
import pytest

from ablate.errors import DatabaseError
from ablate.results import database, migrations, schema
from ablate.results.ingest import ingest
from ablate.results.lock import lock_path
from ablate.results.open import open_results

KILLED = """
import os, sys
from pathlib import Path
from ablate.results import database, ingest
with database.writing(Path(sys.argv[1]), 10) as (connection, lock, moved):
    connection.execute("SET checkpoint_threshold = '1GB'")
    ingest.take_in(connection, Path(sys.argv[2]), "runs")
    os._exit(9)
"""


@pytest.fixture
def indexed(work, start):
    """A database with several runs in the file and one more in its log, as a kill leaves it."""
    for number in range(3):
        work.run(f"r{number}").train(3)
    ingest(work.db, work.runs_dir)
    work.run("late").train(2)
    assert start(KILLED, work.db, work.runs_dir).wait() == 9
    assert database.wal_path(work.db).exists()
    return work


def flip(path, offset, bit):
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def expected(work, dump):
    fresh = work.root / "fresh.duckdb"
    with open_results(fresh, work.runs_dir) as results:
        return dump(results)


@pytest.mark.parametrize(
    "kind", ["flip", "header", "truncate", "empty", "text", "log flip", "log truncate", "log zero"]
)
@pytest.mark.parametrize("seed", range(2))
def test_damage_is_survived_with_every_row(indexed, dump, kind, seed):
    """Whatever is damaged, all rows are there, once, and the damaged file is kept aside or was not needed."""
    right = expected(indexed, dump)
    pick = random.Random(f"{kind}{seed}")
    path = database.wal_path(indexed.db) if kind.startswith("log") else indexed.db
    size = path.stat().st_size
    if kind in ("flip", "log flip"):
        flip(path, pick.randrange(size), pick.randrange(8))
    elif kind == "header":
        flip(path, pick.randrange(12288), pick.randrange(8))
    elif kind == "text":
        path.write_text("hello\n" * 1000)
    elif kind == "log zero":
        with path.open("r+b") as file:
            file.seek(pick.randrange(size))
            file.write(b"\0" * (size - file.tell()))
    else:
        os.truncate(path, 0 if kind == "empty" else pick.randrange(1, size))
    with open_results(indexed.db, indexed.runs_dir) as results:
        assert dump(results) == right
    with open_results(indexed.db, indexed.runs_dir) as results:
        assert dump(results) == right
        aside = sorted(path.name for path in indexed.root.glob("*.corrupt-*"))
        if kind in ("header", "empty", "text", "truncate", "log zero"):
            assert "results.duckdb.corrupt-1" in aside


def test_damage_found_while_reading_falls_back_to_the_runs(indexed, dump):
    """A block that only a query reads."""
    right = expected(indexed, dump)
    with open_results(indexed.db, indexed.runs_dir) as results:
        assert dump(results) == right  # nothing in the log any more
    size = indexed.db.stat().st_size
    for offset in range(12288, size, 4096):
        flip(indexed.db, offset + 100, 3)
    with open_results(indexed.db, indexed.runs_dir) as results:
        assert dump(results) == right
        assert "damaged" in results.freshness
    assert (indexed.root / "results.duckdb.corrupt-1").exists()


def test_a_second_quarantine_overwrites_nothing(indexed):
    for number in (1, 2):
        indexed.db.write_text(f"broken {number}")
        done = ingest(indexed.db, indexed.runs_dir)
        assert f"results.duckdb.corrupt-{number}" in done.rebuilt
    assert (indexed.root / "results.duckdb.corrupt-1").read_text() == "broken 1"


def test_a_deleted_database_is_made_again(indexed, dump):
    right = expected(indexed, dump)
    indexed.db.unlink()  # the log stays behind
    with open_results(indexed.db, indexed.runs_dir) as results:
        assert dump(results) == right


def checksum(data):
    """DuckDB's, of a header block."""
    result = 5381
    for (word,) in struct.iter_unpack("<Q", data):
        result ^= (word * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    return result


def test_a_newer_storage_version_is_left_alone(work):
    """Fault 15."""
    work.run().train(1)
    ingest(work.db, work.runs_dir)
    data = bytearray(work.db.read_bytes())
    assert struct.unpack("<Q", data[:8]) == (checksum(bytes(data[8:4096])),)
    data[12:20] = struct.pack("<Q", 4000)
    data[:8] = struct.pack("<Q", checksum(bytes(data[8:4096])))
    work.db.write_bytes(data)
    for use in (ingest, open_and_count):
        with pytest.raises(DatabaseError, match=r"written by a newer DuckDB than .* not touched"):
            use(work.db, work.runs_dir)
    assert work.db.read_bytes() == data


def open_and_count(db, runs_dir):
    with open_results(db, runs_dir) as results:
        return len(results.runs())


def test_a_newer_schema_is_left_alone(work):
    work.run().train(1)
    ingest(work.db, work.runs_dir)
    connection = database.attach(work.db)
    connection.execute("INSERT INTO base.migrations VALUES (999, 'later', 0)")
    connection.close()
    before = work.db.read_bytes()
    for use in (ingest, open_and_count):
        with pytest.raises(DatabaseError, match=r"schema 999, this ablate knows \d+; it was not touched"):
            use(work.db, work.runs_dir)
    assert work.db.read_bytes() == before


def test_a_database_of_an_earlier_version_is_brought_up_to_date(work, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
        connection = database.attach(work.db)
        migrations.migrate(connection)
        connection.close()
    run = work.run()
    run.train(1)
    work.study("one", [run])
    record = work.runs_dir / "studies" / "one.json"
    content = json.loads(record.read_text())
    content["cells"][0] |= {"notes": ["said"], "unknown": ["seed"]}
    record.write_text(json.dumps(content))
    ingest(work.db, work.runs_dir)
    with open_results(work.db, work.runs_dir) as results:
        assert [(list(cell.notes), list(cell.unknown)) for cell in results.cells("one")] == [(["said"], ["seed"])]
        assert results.cells("one") == results.cells(run_id=run.run_id)
        assert results.cells(run_id="another") == ()


@pytest.mark.parametrize("content", [b"my notes\n" * 1000, b"", b"SQLite format 3\x00" + b"\0" * 5000])
def test_a_file_that_is_no_database_is_left_alone(work, content):
    work.run().train(1)
    notes = work.root / "notes.txt"
    notes.write_bytes(content)
    for use in (ingest, open_and_count):
        with pytest.raises(DatabaseError, match="not a DuckDB database; it was not touched"):
            use(notes, work.runs_dir)
    assert notes.read_bytes() == content
    assert sorted(path.name for path in work.root.iterdir()) == ["notes.txt", "runs"]


def test_a_foreign_database_is_left_alone(work):
    work.run().train(1)
    connection = duckdb.connect(str(work.db))
    connection.execute("CREATE TABLE customers AS SELECT 1 AS n")
    connection.close()
    before = work.db.read_bytes()
    with pytest.raises(DatabaseError, match="holds other tables; it was not touched"):
        ingest(work.db, work.runs_dir)
    assert work.db.read_bytes() == before and not lock_path(work.db).exists()


def test_a_damaged_foreign_database_is_left_alone(work):
    work.run().train(1)
    connection = duckdb.connect(str(work.db))
    connection.execute("CREATE TABLE customers AS SELECT 1 AS n")
    connection.close()
    flip(work.db, 100, 1)
    before = work.db.read_bytes()
    with pytest.raises(DatabaseError, match=r"is damaged .* move it away"):
        ingest(work.db, work.runs_dir)
    assert work.db.read_bytes() == before


FULL = """
import resource, signal, sys
from pathlib import Path
from ablate.errors import DatabaseError
from ablate.results.ingest import ingest
from ablate.results.open import open_results
db, runs = map(Path, sys.argv[1:3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    print("ingested", ingest(db, runs))
except DatabaseError as error:
    print(type(error).__name__)
with open_results(db, runs) as results:
    print(len(results.runs()), results.freshness)
"""


def test_a_full_disk_costs_no_file_and_stops_no_report(work, start):
    for number in range(4):
        work.run(f"r{number}").train(3)
    ingest(work.db, work.runs_dir)
    for number in range(30):
        work.run(f"more{number}").train(3)
    process = start(FULL, work.db, work.runs_dir)
    lines = [process.line(), process.line()]
    assert process.wait() == 0
    assert lines[0] == "CannotWriteError" and lines[1].startswith("34 "), lines
    assert not list(work.root.glob("*.corrupt-*"))
    with open_results(work.db, work.runs_dir) as results:
        assert len(results.runs()) == 34 and results.rows("SELECT count(*) FROM epochs")[1] == [(34 * 3,)]


def test_no_index_and_no_unique_key_anywhere(work):
    """An index has lost rows after a kill (DuckDB 1.5), and delete and insert under a key has made files unreadable."""
    text = " ".join((*schema.TABLES, *schema.VIEWS)).upper()
    assert not [word for word in ("CREATE INDEX", "UNIQUE", "PRIMARY KEY", "REFERENCES") if word in text]
    connection = database.empty()
    assert connection.execute("SELECT count(*) FROM duckdb_indexes()").fetchone() == (0,)


def test_the_file_is_never_opened_in_the_lossy_way():
    """`duckdb.connect` takes no path anywhere in this package."""
    import ast
    from pathlib import Path

    import ablate

    for path in Path(ablate.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "duckdb.connect":
                assert not node.args and {word.arg for word in node.keywords} <= {"config"}, path


def test_quarantine_takes_the_log_along(indexed):
    moved = database.quarantine(indexed.db)
    assert moved.exists() and database.wal_path(moved).exists()
    assert not indexed.db.exists() and not database.wal_path(indexed.db).exists()
    shutil.copy(moved, indexed.db)
    assert database.quarantine(indexed.db).name == "results.duckdb.corrupt-2"
