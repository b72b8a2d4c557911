"""Reading the results while runs write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import duckdb

from ablate.errors import DatabaseError, HeldError
from ablate.results import database, ingest
from ablate.results.queries import Answer, Queries, fetch_from

_T = TypeVar("_T")


class Results(Queries):
    """The results as of the moment of opening. `freshness` is a sentence that says what they show."""

    def __init__(self, db: Path, runs_dir: Path, wait: float) -> None:
        super().__init__(self._ask, db.parent)
        self._db, self._runs_dir, self._wait = db, runs_dir, wait
        self._stack = ExitStack()
        self.freshness = ""
        self.unreadable: tuple[str, ...] = ()
        """Run directories that could not be read, and why."""
        self._connection = self._open()

    def close(self) -> None:
        self._stack.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        if not self._db.exists() and not self._runs_dir.is_dir():
            self.freshness = f"no runs yet: neither {self._db} nor {self._runs_dir} exists"
            return self._keep(database.empty())
        if not self._runs_dir.is_dir():  # a database that was sent to a colleague, say
            return self._as_it_is(f"{self._runs_dir} does not exist")
        try:
            done = ingest.ingest_now(self._db, self._runs_dir, self._wait)
        except HeldError as error:
            return self._as_it_is(str(error))
        except (database.CorruptError, database.CannotWriteError) as error:
            return self._from_runs(str(error))
        self.unreadable = tuple(done.problems)
        fresh = f"up to date as of {_now()}"
        return self._read_only(f"{done.rebuilt}; {fresh}" if done.rebuilt else fresh)

    def _as_it_is(self, why: str) -> duckdb.DuckDBPyConnection:
        """The database without what was recorded since it was last brought up to date."""
        if not self._db.exists():
            return self._from_runs(why)
        since = datetime.fromtimestamp(self._db.stat().st_mtime)
        return self._read_only(f"{why}. Shown is what was known at {since:%Y-%m-%d %H:%M:%S} or a little later")

    def _read_only(self, freshness: str) -> duckdb.DuckDBPyConnection:
        try:
            self._stack.enter_context(database.locked(self._db, exclusive=False, wait=self._wait))
            connection = database.attach(self._db, read_only=True)
            with database.translated(self._db):
                database.check_ours(self._db, connection)
        except (HeldError, database.CorruptError, database.CannotWriteError) as error:
            self._stack.close()
            return self._from_runs(str(error))
        except BaseException:
            self._stack.close()
            raise
        self.freshness = freshness
        return self._keep(connection)

    def _from_runs(self, why: str) -> duckdb.DuckDBPyConnection:
        """Everything, read from the run directories into memory: slower, and needs no file."""
        connection = self._keep(database.empty())
        done = ingest.take_in(connection, self._runs_dir, ingest.root_key(self._db, self._runs_dir))
        self.unreadable = tuple(done.problems)
        self.freshness = f"{why}. Read from {self._runs_dir} itself at {_now()}"
        return connection

    def _keep(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        self._stack.callback(connection.close)
        return connection

    def _ask(self, sql: str, parameters: Sequence[object]) -> Answer:
        return self.use(lambda connection: fetch_from(connection, sql, parameters))

    def use(self, ask: Callable[[duckdb.DuckDBPyConnection], _T]) -> _T:
        """What `ask` makes of the connection; DuckDB's errors become ours.

        A part of the file that nobody had read before may prove to be damaged: then the runs are asked, with `ask` again.
        """
        try:
            with database.translated(self._db):
                return ask(self._connection)
        except database.CorruptError as error:
            inode = ingest.inode(self._db)
            self._stack.close()
            self._connection = self._after_damage(error, inode)
            with database.translated(self._db):
                return ask(self._connection)

    def _after_damage(self, error: database.CorruptError, inode: int) -> duckdb.DuckDBPyConnection:
        try:
            if sentence := ingest.set_aside(self._db, inode, self._wait, error):
                ingest.ingest_now(self._db, self._runs_dir, self._wait)
                return self._read_only(f"{sentence}; up to date as of {_now()}")
        except (HeldError, DatabaseError):
            pass  # the runs still have everything
        return self._from_runs(str(error))


def _now() -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"


@contextmanager
def open_results(db: Path, runs_dir: Path, wait: float = 2.0) -> Iterator[Results]:
    """The results, as fresh as can be had within `wait` seconds.

    Brings the database up to date and reads it; if it is busy, reads it as it is; if even that is refused, reads
    the run directories themselves. `freshness` says which. Raises DatabaseError if `db` is not a database of ours
    or is too new; it is not touched then.
    """
    results = Results(db, runs_dir, wait)
    try:
        yield results
    finally:
        results.close()
