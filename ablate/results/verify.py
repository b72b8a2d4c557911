"""`ablate db verify`: whether the database says what the run directories say.

Both are brought up to date, then every public view is compared but those made from others (`leaderboard`,
`best_epochs`, `paired`): per run (or study) the number of its rows and a
sum of their hashes, so that ten thousand runs fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from ablate.errors import UsageError
from ablate.results import database, ingest
from ablate.runs import lease
from ablate.runs.paths import RunsDir

VIEWS = {
    "studies": "study",
    "cells": "study",
    "runs": "run_id",
    "epochs": "run_id",
    "evaluations": "run_id",
    "image_metrics": "run_id",
    "events": "run_id",
    "notes": "run_id",
    "tags": "run_id",
}
"""The public views with rows of their own, and the column by which differences are named."""

_TRIES = 3

Sums = Mapping[tuple[str, str], tuple[int, int]]
"""(view, run or study) -> (rows, sum of their hashes)."""


@dataclass
class Verified:
    """What a comparison found; `rows` are those of the database."""

    rows: int = 0
    differences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Run directories that could not be read, and what was therefore not compared."""


def verify(db: Path, runs_dir: Path, wait: float = 10.0) -> Verified:
    """Raises UsageError if one of the two is missing, HeldError after `wait` seconds, DatabaseError if `db` is damaged.

    Runs that write meanwhile are compared again; one that never holds still is named among `problems`.
    """
    if not db.exists():
        raise UsageError(f"{db}: no such database; `ablate db rebuild` makes it from the runs")
    if not runs_dir.is_dir():
        raise UsageError(f"{runs_dir}: no such folder of runs; give it with --runs-dir")
    for left in reversed(range(_TRIES)):
        found, busy = _once(db, runs_dir, wait)
        if not busy or not left:
            break
    found.problems += [f"{name} is being trained and went on meanwhile; not compared" for name in busy]
    return found


def _once(db: Path, runs_dir: Path, wait: float) -> tuple[Verified, list[str]]:
    """One comparison, and the runs that differ because they are being trained."""
    found = Verified()
    found.problems += ingest.ingest_now(db, runs_dir, wait).problems
    with (
        database.locked(db, exclusive=False, wait=wait),
        database.attach(db, read_only=True) as connection,
        database.translated(db),
    ):
        database.check_ours(db, connection)
        stored, roots = _sums(connection), _roots(connection)
    expected = _expected(db, runs_dir, roots, found.problems)
    found.rows = sum(rows for rows, _ in stored.values())
    names = _training(runs_dir)
    differing = [key for key in dict.fromkeys((*expected, *stored)) if expected.get(key) != stored.get(key)]
    found.differences = [_say(*key, stored.get(key), expected.get(key)) for key in differing if key[1] not in names]
    return found, sorted({names[key[1]] for key in differing if key[1] in names})


def _sums(connection: duckdb.DuckDBPyConnection) -> Sums:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for view, key in VIEWS.items():
        # Sums, so that neither order nor size matters.
        rows = connection.execute(
            f"SELECT {key}, count(*), sum(md5_number_lower(CAST(v AS VARCHAR))::HUGEINT) FROM {view} v GROUP BY {key}"
        ).fetchall()
        found |= {(view, str(name)): (int(count), int(total)) for name, count, total in rows}
    return found


def _roots(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The folders of runs in the order in which the database met them."""
    rows = connection.execute("SELECT root FROM base.sources WHERE present GROUP BY root ORDER BY max(source)")
    return [root for (root,) in rows.fetchall()]


def _expected(db: Path, runs_dir: Path, roots: list[str], problems: list[str]) -> Sums:
    """The same sums of a database that is made in memory from nothing but the runs."""
    own = ingest.root_key(db, runs_dir)
    with database.empty() as connection:
        for root in dict.fromkeys((*roots, own)):
            folder = runs_dir if root == own else db.parent / root
            if not folder.is_dir():
                problems.append(f"{folder} does not exist; what the database holds of it cannot be compared")
            ingest.take_in(connection, folder, root)
        return _sums(connection)


def _training(runs_dir: Path) -> dict[str, str]:
    """Run id -> name of the runs that somebody trains now."""
    return {
        paths.name.rpartition("-")[2]: paths.name for paths in RunsDir(runs_dir).runs() if lease.is_held(paths.lease)
    }


def _say(view: str, name: str, stored: tuple[int, int] | None, expected: tuple[int, int] | None) -> str:
    have, want = (found[0] if found else 0 for found in (stored, expected))
    counts = f"{have} rows, {want} in the runs" if have != want else "the same number of rows, other values"
    return f"{view} of {name}: {counts}"
