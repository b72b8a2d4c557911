"""A question of one's own, in SQL: it can read the results and nothing else, and change nothing.

The database is attached read-only, in a read-only transaction, on a connection that has no access to other files and
whose settings are locked; only what answers with rows is executed at all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from ablate.errors import DatabaseError, UsageError
from ablate.results.database import is_damage
from ablate.results.open import Results

_LOCKED = (
    "python_enable_replacements = false",  # a table must not be a variable of this program
    "temp_directory = ''",  # nothing is written, not even what does not fit into memory
    "enable_external_access = false",
    "lock_configuration = true",  # the last one
)
_ANSWERS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""`MULTI` is PIVOT, which DuckDB takes apart into several statements."""
_AT_ONCE = 2000


class QueryError(UsageError):
    """The query cannot be answered as written; the text is DuckDB's, with the place."""


class SlowQueryError(DatabaseError):
    """The query was not answered in the time that it was given."""


@dataclass(frozen=True)
class Column:
    """`type` as DuckDB names it: `DOUBLE`, `JSON` …"""

    name: str
    type: str


Take = Callable[[Sequence[Column], Iterator[tuple[Any, ...]]], None]


def ask(results: Results, sql: str, take: Take, timeout: float | None = None) -> None:
    """Gives the columns and rows of the answer to `take`, as they come.

    `take` may be called a second time, from the start, should the database prove to be damaged meanwhile. Raises
    QueryError, and SlowQueryError after `timeout` seconds.
    """
    results.use(lambda connection: _answer(connection, sql, take, timeout))


def _answer(connection: duckdb.DuckDBPyConnection, sql: str, take: Take, timeout: float | None) -> None:
    statement = _only(connection, sql)
    _lock_down(connection)
    with _limited(connection, timeout) as late:
        try:
            connection.execute("BEGIN TRANSACTION READ ONLY")
            done = connection.execute(statement)
            take([Column(entry[0], str(entry[1])) for entry in done.description or ()], _rows(done))
        except duckdb.Error as error:
            if is_damage(error):
                raise  # the same is asked again, of the runs
            raise (_slow(timeout) if late.is_set() else QueryError(str(error).strip())) from error
        except RuntimeError as error:  # DuckDB's way of saying Ctrl-C
            if "interrupted" not in str(error):
                raise
            raise KeyboardInterrupt from error
        finally:
            with contextlib.suppress(duckdb.Error):
                connection.rollback()


def _lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """Once for a connection: the last setting cannot be taken back."""
    if connection.execute("SELECT current_setting('lock_configuration')").fetchone() == (False,):
        for setting in _LOCKED:
            connection.execute(f"SET {setting}")


@contextlib.contextmanager
def _limited(connection: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[threading.Event]:
    """Interrupts what the connection does after so many seconds, and says so with the event."""
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        connection.interrupt()

    timer = threading.Timer(seconds, interrupt) if seconds else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield late
    finally:
        if timer is not None:
            timer.cancel()
            timer.join()


def _only(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement of the text. Raises QueryError if there is another number, or if it is no question."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error).strip()) from error
    if len(statements) != 1:
        found = f"{len(statements)} statements" if statements else "no statement"
        raise QueryError(f"{found}; give one, such as SELECT * FROM leaderboard")
    statement = statements[0]
    if statement.type not in _ANSWERS:
        kind = statement.query.split(None, 1)[0].upper()[:20]
        hint = "; DESCRIBE leaderboard and SHOW TABLES say what there is" if kind in ("PRAGMA", "CALL") else ""
        raise QueryError(f"{kind}: only questions are answered (SELECT, FROM, WITH, DESCRIBE, EXPLAIN, PIVOT){hint}")
    return statement


def _rows(done: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := done.fetchmany(_AT_ONCE):
        yield from rows


def _slow(timeout: float | None) -> SlowQueryError:
    return SlowQueryError(f"no answer within {timeout:g} seconds; give it longer with --timeout, or ask for less")
