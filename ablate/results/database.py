"""Opening `results.duckdb`, in the one way that is safe on DuckDB 2.0.

`duckdb.connect(path)` is never used: an in-memory connection attaches the file with `TYPE duckdb`, which skips
the header prefetch that loses commits, and only under the lock of `ablate.results.lock`. Python never opens,
copies or hashes the file itself: closing any descriptor of it would drop DuckDB's own lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb

from ablate.errors import DatabaseError, HeldError
from ablate.results.lock import DatabaseLock, hold
from ablate.results.migrations import is_ours, migrate, newest_version, stored_version

_MAX_THREADS = 4
"""Ingest runs beside training; more threads would not make it faster."""

_CORRUPT_TYPES = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_CORRUPT_TEXTS = (
    "Corrupt database file",
    "Could not read enough bytes",
    "Failure while replaying WAL",
    "does not match stored checksum",
    "database has been invalidated",
)
_NOT_A_DATABASE = "not a valid DuckDB database file"
_NEWER = "created with a newer version of DuckDB"
_CANNOT_WRITE = ("No space left", "Read-only file system", "Permission denied", "quota exceeded", "File too large")
_HELD = ("Could not set lock on file", "is already attached")


class CorruptError(DatabaseError):
    """The file, or what was not yet folded into it, is damaged."""


class NotADatabaseError(DatabaseError):
    """The file holds something else."""


class CannotWriteError(DatabaseError):
    """The disk is full, or the place may only be read."""


def memory() -> duckdb.DuckDBPyConnection:
    """A connection without a file. Never looks for extensions on the network."""
    connection = duckdb.connect(
        config={
            "threads": min(_MAX_THREADS, os.cpu_count() or 1),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET enable_progress_bar = false")  # it goes to stdout, amid the data
    return connection


def empty() -> duckdb.DuckDBPyConnection:
    """An in-memory database with all tables and views."""
    connection = memory()
    migrate(connection)
    return connection


def attach(db: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection whose default database is the file `db`. Call it only while holding its lock.

    Raises DatabaseError, CorruptError or HeldError.
    """
    connection = memory()
    quoted = str(db).replace("'", "''")
    try:
        with translated(db):
            connection.execute(f"ATTACH '{quoted}' AS r (TYPE duckdb{', READ_ONLY' if read_only else ''})")
            connection.execute("USE r")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def translated(db: Path) -> Iterator[None]:
    """Turns DuckDB's errors into ours."""
    try:
        yield
    except duckdb.Error as error:
        raise _translate(db, error) from error


def _translate(db: Path, error: duckdb.Error) -> DatabaseError | HeldError:
    text = str(error)
    first = text.partition("\n")[0]
    if any(part in text for part in _HELD):
        return HeldError(f"{db} is open in another program ({first}); close it there")
    if any(part in text for part in _CANNOT_WRITE):
        return CannotWriteError(f"{db} cannot be written ({first})")
    if _NEWER in text:
        return DatabaseError(
            f"{db} was written by a newer DuckDB than {duckdb.__version__}; it was not touched. "
            "Update ablate-depth, or give another file with --db"
        )
    if _NOT_A_DATABASE in text:
        return NotADatabaseError(f"{db} is not a DuckDB database; it was not touched. Give another file with --db")
    if is_damage(error):
        return CorruptError(f"{db} is damaged ({first}); move it away, or make it again with `ablate db rebuild`")
    return DatabaseError(f"{db}: {first}")


def is_damage(error: duckdb.Error) -> bool:
    """Whether the file, and not what was asked, is at fault."""
    return isinstance(error, _CORRUPT_TYPES) or any(part in str(error) for part in _CORRUPT_TEXTS)


@contextmanager
def locked(db: Path, *, exclusive: bool, wait: float) -> Iterator[DatabaseLock]:
    """`lock.hold`, with CannotWriteError where the lock file cannot be made."""
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(hold(db, exclusive=exclusive, wait=wait))
        except OSError as error:
            raise CannotWriteError(f"{db} cannot be locked ({error.strerror}: {error.filename})") from error
        yield lock


@contextmanager
def writing(db: Path, wait: float) -> Iterator[tuple[duckdb.DuckDBPyConnection, DatabaseLock, str | None]]:
    """The database, locked, attached for writing and brought to the newest schema.

    Gives the connection, the lock and, if the file was damaged and has been moved aside, a sentence that says
    so: the caller then finds an empty database. Raises HeldError after `wait` seconds, or DatabaseError for a
    file that is not ours or too new (it stays untouched).
    """
    with locked(db, exclusive=True, wait=wait) as lock:
        connection, moved = _attach_or_replace(db, lock)
        try:
            with translated(db):
                yield connection, lock, moved
        finally:
            connection.close()


def _attach_or_replace(db: Path, lock: DatabaseLock) -> tuple[duckdb.DuckDBPyConnection, str | None]:
    try:
        return _attach_migrated(db, lock), None
    except (CorruptError, NotADatabaseError) as error:
        if not lock.ours:
            raise
        moved = quarantine(db)
        sentence = f"{db.name} was damaged ({cause(error)}); it is now {moved.name}, and was made again from the runs"
        return _attach_migrated(db, lock), sentence


def cause(error: BaseException) -> str:
    return str(error.__cause__ or error).partition("\n")[0]


def _attach_migrated(db: Path, lock: DatabaseLock) -> duckdb.DuckDBPyConnection:
    connection = attach(db)
    try:
        with translated(db):
            check_ours(db, connection)
            migrate(connection)
    except BaseException:
        connection.close()
        raise
    lock.mark_ours()
    return connection


def check_ours(db: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Raises DatabaseError if the database belongs to something else or to a newer version of this tool."""
    if not is_ours(connection):
        raise DatabaseError(f"{db} holds other tables; it was not touched. Give another file with --db")
    version = stored_version(connection)
    if version > newest_version():
        raise DatabaseError(
            f"{db} has schema {version}, this ablate knows {newest_version()}; it was not touched. "
            "Update ablate-depth, or give another file with --db"
        )


def wal_path(db: Path) -> Path:
    return db.with_name(db.name + ".wal")


def quarantine(db: Path) -> Path:
    """Moves a damaged database and its log aside, never over an older one; returns the new path."""
    number = 1
    while (aside := db.with_name(f"{db.name}.corrupt-{number}")).exists() or wal_path(aside).exists():
        number += 1
    # The log first: a database without its log is older, a log without its database would spoil the next one.
    if wal_path(db).exists():
        wal_path(db).replace(wal_path(aside))
    if db.exists():
        db.replace(aside)
    return aside
