"""The schema, as numbered migrations: each is applied in one transaction together with its record.

Never edit a migration that was released; add one. No CREATE INDEX, PRIMARY KEY or UNIQUE anywhere: DuckDB
has lost rows behind an index after a kill, and has refused to replay its log after delete and insert under a
unique key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import duckdb

from ablate.results import schema


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS = (
    Migration(1, "first light", (*schema.TABLES, *schema.VIEWS)),
    Migration(2, "what a study says of its cells", schema.REMARKS),
    Migration(3, "notes, tags and runs that were imported", schema.NOTES),
    Migration(4, "questions of one's own", schema.QUESTIONS),
)


def newest_version() -> int:
    return MIGRATIONS[-1].version


def is_ours(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the current database is empty or was made by this tool."""
    names = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = current_database()"
    ).fetchall()
    return not names or ("base.migrations",) in names


def stored_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The newest migration that was applied; 0 for an empty database."""
    there = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = 'base' AND table_name = 'migrations'"
    ).fetchone()
    if there is None:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM base.migrations").fetchone()
    return int(row[0]) if row else 0


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Applies what is missing."""
    version = stored_version(connection)
    for migration in MIGRATIONS:
        if migration.version > version:
            _apply(connection, migration)


def _apply(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    connection.begin()
    try:
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO base.migrations VALUES (?, ?, ?)", [migration.version, migration.name, time.time()]
        )
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
