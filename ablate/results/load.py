"""The SQL that stores runs: everything about one run directory goes in with one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import duckdb

from ablate.results.scan import START, Place, Stamps, Text
from ablate.runs.directory import RunConfig, RunIdentity
from ablate.runs.notes import Notes
from ablate.runs.states import Reason, State, Status

Row = tuple[object, ...]


@dataclass(frozen=True)
class Known:
    """What the database knows of one run directory."""

    source: int
    directory: str
    run_id: str
    stamps: Stamps
    place: Place = START
    problem: str | None = None
    revision: int = 0
    version: int = 0
    state: State = State.QUEUED
    reason: Reason | None = None
    message: str | None = None
    noted: int = 0
    """How often its notes were stored."""


@dataclass
class Change:
    """What is new of one run directory; `before` is what the database knew of it."""

    root: str
    before: Known
    run: Row | None = None
    state: Row | None = None
    notes: Row | None = None
    replaces: int | None = None
    lines: list[Text] = field(default_factory=list)
    bytes: int = 0
    final: tuple[Stamps, str | None] | None = None
    """The stamps of the files and what is wrong with them, once everything has been read."""

    def add(self, line: Text) -> None:
        self.lines.append(line)
        self.bytes += len(line.text)

    @property
    def known(self) -> Known:
        """What the database knows once this is stored."""
        place = self.lines[-1].place if self.lines else self.before.place
        stamps, problem = self.final or (replace(self.before.stamps, journal=""), self.before.problem)
        return replace(self.before, place=place, stamps=stamps, problem=problem)


class Batch:
    """Changes that go into one transaction."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.changes: list[Change] = []
        self.bytes = 0

    def add(self, change: Change) -> None:
        self.changes.append(change)
        self.bytes += change.bytes


def run_row(known: Known, identity: RunIdentity, config: RunConfig) -> Row:
    settings, digests, configuration = (_json(value) for value in (identity.settings, identity.digests, config.config))
    names = (identity.run_id, identity.name, identity.task, identity.recipe, identity.hash)
    return (
        known.source,
        known.revision + 1,
        *names,
        settings,
        digests,
        configuration,
        config.command,
        identity.created,
        None if identity.external is None else _json(asdict(identity.external)),
    )


def state_row(known: Known, now: Status) -> Row:
    reason = None if now.reason is None else str(now.reason)
    return known.source, known.version + 1, str(now.state), reason, now.message, time.time()


def notes_row(known: Known, notes: Notes) -> Row:
    return known.source, known.noted + 1, _json([asdict(note) for note in notes.notes]), _json(notes.tags)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def known_sources(connection: duckdb.DuckDBPyConnection, root: str) -> dict[str, Known]:
    """By directory name."""
    rows = connection.execute(
        """SELECT s.source, s.directory, s.run_id, s.identity_stamp, s.config_stamp, s.outcome_stamp, s.journal_stamp,
            coalesce(s.notes_stamp, ''), s.line_start, s.line_end, s.line_crc, s.problem, coalesce(r.revision, 0),
            coalesce(t.version, 0), coalesce(t.state, 'queued'), t.reason, t.message, coalesce(n.version, 0)
        FROM base.sources s LEFT JOIN base.newest_states t USING (source)
            LEFT JOIN (SELECT source, max(version) AS version FROM base.notes GROUP BY source) n USING (source)
            LEFT JOIN (SELECT source, max(revision) AS revision FROM base.runs GROUP BY source) r USING (source)
        WHERE s.present AND s.root = ?""",
        [root],
    ).fetchall()
    return {row[1]: _known(row) for row in rows}


def _known(row: tuple[Any, ...]) -> Known:
    reason = Reason(row[15]) if row[15] else None
    where = (State(row[14]), reason, row[16], row[17])
    return Known(row[0], row[1], row[2], Stamps(*row[3:8]), Place(*row[8:11]), row[11], row[12], row[13], *where)


def next_source(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("SELECT coalesce(max(source), 0) + 1 FROM base.sources").fetchone()
    return int(row[0]) if row else 1


def forget(connection: duckdb.DuckDBPyConnection, sources: Sequence[int]) -> None:
    """The directories are gone: their rows are no longer shown."""
    if sources:
        connection.execute("UPDATE base.sources SET present = false WHERE source IN (SELECT unnest(?))", [sources])


def store(connection: duckdb.DuckDBPyConnection, changes: Sequence[Change]) -> list[str]:
    """Stores all changes in one transaction.

    Should one run hold what cannot be stored, the others are stored without it; returns what is wrong with it.
    """
    try:
        _transaction(connection, changes)
    except (duckdb.DataError, duckdb.ProgrammingError) as error:
        if len(changes) > 1:
            return [problem for change in changes for problem in store(connection, [change])]
        first = str(error).partition("\n")[0]
        known = changes[0].known
        problem = f"{known.directory}: its records cannot be stored ({first})"
        _transaction(connection, [Change(changes[0].root, known, final=(known.stamps, problem))])
        return [problem]
    return []


def _transaction(connection: duckdb.DuckDBPyConnection, changes: Sequence[Change]) -> None:
    connection.begin()
    try:
        _insert(connection, "runs", [change.run for change in changes if change.run])
        _insert(connection, "states", [change.state for change in changes if change.state])
        _insert(connection, "notes", [change.notes for change in changes if change.notes])
        _store_records(connection, changes)
        _store_sources(connection, changes)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    """All rows at once: DuckDB takes a list per column far faster than a statement per row."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        marks = ", ".join("unnest(?)" for _ in columns)
        connection.execute(f"INSERT INTO base.{table} SELECT {marks}", columns)


def _store_sources(connection: duckdb.DuckDBPyConnection, changes: Sequence[Change]) -> None:
    forget(connection, [change.replaces for change in changes if change.replaces is not None])
    newest = {change.before.source: change for change in changes}
    connection.execute("DELETE FROM base.sources WHERE source IN (SELECT unnest(?))", [list(newest)])
    rows: list[Row] = []
    for change in newest.values():
        known, stamps, place = change.known, change.known.stamps, change.known.place
        stamped = (stamps.identity, stamps.config, stamps.outcome, stamps.journal)
        placed = (place.start, place.end, place.crc, known.problem)
        rows.append((known.source, change.root, known.directory, known.run_id, True, *stamped, *placed, stamps.notes))
    _insert(connection, "sources", rows)


_ATTEMPT = json.dumps(
    {"body": dict.fromkeys(("host", "device", "command"), "VARCHAR") | {"pid": "BIGINT", "threads": "INTEGER"}
     | dict.fromkeys(("versions", "git", "resumed_from", "facts"), "JSON")}
)  # fmt: skip
_EPOCH = json.dumps(
    {"body": dict.fromkeys(("train_loss", "lr", "seconds", "images_per_second", "peak_memory_mb"), "DOUBLE")
     | {"images": "BIGINT", "order": "VARCHAR"}}
)  # fmt: skip
_EVALUATION = json.dumps(
    {"body": {"split": "VARCHAR", "resolution": "VARCHAR", "metrics": "MAP(VARCHAR, DOUBLE)", "loss": "DOUBLE",
              "images": "BIGINT", "skipped": "BIGINT", "protocol": "JSON"}}
)  # fmt: skip
_SCORES = json.dumps({"body": {"scores": [{"image": "VARCHAR", "metrics": "MAP(VARCHAR, DOUBLE)"}]}})

_INSERTS = {
    "attempt": (
        "INSERT INTO base.attempts SELECT source, seq, attempt, wall, b.host, b.pid, b.device, b.threads, "
        "b.command, b.versions, b.git, b.resumed_from, b.facts "
        f"FROM (SELECT *, from_json(text, '{_ATTEMPT}').body AS b FROM staged WHERE type = 'attempt')",
    ),
    "epoch": (
        "INSERT INTO base.epochs SELECT source, seq, attempt, epoch, step, wall, b.train_loss, b.lr, b.seconds, "
        'b.images, b.images_per_second, b.peak_memory_mb, b."order" '
        f"FROM (SELECT *, from_json(text, '{_EPOCH}').body AS b FROM staged WHERE type = 'epoch')",
    ),
    "evaluation": (
        "INSERT INTO base.evaluations SELECT source, seq, attempt, epoch, step, wall, b.split, b.resolution, "
        "b.metrics, b.loss, b.images, b.skipped, b.protocol "
        f"FROM (SELECT *, from_json(text, '{_EVALUATION}').body AS b FROM staged WHERE type = 'evaluation')",
        # Three steps, so that the long text is not copied for every image.
        "INSERT INTO base.images SELECT source, seq, score.image, score.metrics FROM ("
        "SELECT source, seq, unnest(scores) AS score FROM (SELECT source, seq, "
        f"from_json(text, '{_SCORES}').body.scores AS scores FROM staged WHERE type = 'evaluation'))",
    ),
    "event": (
        "INSERT INTO base.events SELECT source, seq, attempt, epoch, step, wall, text ->> '$.body.name', "
        "text -> '$.body' FROM staged WHERE type = 'event'",
    ),
}


def _store_records(connection: duckdb.DuckDBPyConnection, changes: Sequence[Change]) -> None:
    rows = [
        (
            change.known.source,
            record.seq,
            record.attempt,
            record.type,
            record.epoch,
            record.step,
            record.wall,
            line.text,
        )
        for change in changes
        for line in change.lines
        for record in (line.record,)
    ]
    if not rows:
        return
    names = ("source", "seq", "attempt", "type", "epoch", "step", "wall", "text")
    marks = ", ".join(f"unnest(?) AS {name}" for name in names)
    columns = [list(column) for column in zip(*rows, strict=True)]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE staged AS SELECT {marks}", columns)
    for kind in sorted({row[3] for row in rows}):
        for statement in _INSERTS[kind]:
            connection.execute(statement)
    connection.execute("DROP TABLE temp.staged")
