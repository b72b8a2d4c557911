"""`ablate db rebuild`: the same database, made from nothing but the runs."""

from __future__ import annotations

from pathlib import Path

from ablate.errors import DatabaseError, UsageError
from ablate.results import database, ingest
from ablate.results.lock import DatabaseLock
from ablate.results.migrations import migrate
from ablate.runs.files import fsync_folder


def rebuild(db: Path, runs_dir: Path, wait: float = 10.0) -> ingest.Ingested:
    """Makes `db` again from the runs under `runs_dir` and puts it in place of the old one, whole or not at all.

    A damaged database is kept beside it as `….corrupt-N`. Raises HeldError after `wait` seconds, UsageError if
    there is no folder of runs, DatabaseError for a file that is not ours or too new (untouched).
    """
    if not runs_dir.is_dir():
        raise UsageError(f"{runs_dir}: no such folder of runs; give it with --runs-dir")
    with database.locked(db, exclusive=True, wait=wait) as lock:
        moved = _clear_the_way(db, lock)
        fresh = db.with_name(db.name + ".rebuild")
        _remove(fresh)
        try:
            done = _build(fresh, runs_dir, ingest.root_key(db, runs_dir))
            lock.mark_ours()
            # The old log first: beside the new database it would be refused or, worse, replayed.
            database.wal_path(db).unlink(missing_ok=True)
            fresh.replace(db)
            fsync_folder(db.parent)
        finally:
            _remove(fresh)
    done.rebuilt = moved
    return done


def _build(fresh: Path, runs_dir: Path, root: str) -> ingest.Ingested:
    connection = database.attach(fresh)
    try:
        with database.translated(fresh):
            migrate(connection)
            done = ingest.take_in(connection, runs_dir, root)
            connection.execute("CHECKPOINT r")
    finally:
        connection.close()
    if database.wal_path(fresh).exists():
        raise DatabaseError(f"{fresh}: could not be written completely; make room on the disk and try again")
    return done


def _clear_the_way(db: Path, lock: DatabaseLock) -> str | None:
    """Makes sure that what lies at `db` may be replaced; a damaged database of ours is moved aside."""
    if not db.exists():
        return None
    try:
        connection = database.attach(db)
    except database.NotADatabaseError:
        if not lock.ours:
            raise
    except database.CorruptError:
        pass
    else:
        with connection, database.translated(db):
            database.check_ours(db, connection)
        return None
    return f"{db.name} was damaged; it is now {database.quarantine(db).name}"


def _remove(db: Path) -> None:
    for path in (db, database.wal_path(db)):
        path.unlink(missing_ok=True)
