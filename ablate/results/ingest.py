"""Bringing what the runs recorded into the database: a function that anyone may call at any time.

Rows and the place in the journal that they came from are written in one transaction, so that a killed ingest
neither loses nor repeats a row.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from ablate.errors import HeldError, RecordError
from ablate.results import database, load, load_studies, scan
from ablate.results.load import Change, Known
from ablate.results.scan import Stamps
from ablate.runs import directory, notes
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State, Status, status

_BATCH_BYTES = 16 * 2**20
"""Journal text per transaction."""
_BATCH_RUNS = 2000


@dataclass
class Ingested:
    """What one ingest did."""

    runs: int = 0
    """Run directories found."""
    changed: int = 0
    """Those that had something new."""
    records: int = 0
    """Journal records taken in."""
    seconds: float = 0.0
    rebuilt: str | None = None
    """Set if the database was damaged: what happened to it."""
    problems: list[str] = field(default_factory=list)
    """Run directories that could not be read, and why."""


def ingest(db: Path, runs_dir: Path, wait: float = 0.0) -> Ingested | None:
    """Brings `db` up to date with the runs under `runs_dir`; None if it stayed busy for `wait` seconds.

    A damaged database of ours is moved aside and made again. Raises DatabaseError for a file that is not ours
    or too new, or if it cannot be written.
    """
    try:
        return ingest_now(db, runs_dir, wait)
    except HeldError:
        return None


def ingest_now(db: Path, runs_dir: Path, wait: float) -> Ingested:
    """As `ingest`, but raises HeldError, naming the holder, instead of returning None."""
    moved: str | None = None
    for last_try in (False, True):
        before = inode(db)
        try:
            with database.writing(db, wait) as (connection, _, sentence):
                done = take_in(connection, runs_dir, root_key(db, runs_dir))
                done.rebuilt = moved or sentence
                return done
        except database.CorruptError as error:
            moved = None if last_try else set_aside(db, before, wait, error)
            if moved is None:
                raise
    raise AssertionError("unreachable")


def set_aside(db: Path, damaged: int, wait: float, error: database.CorruptError) -> str | None:
    """Moves the file aside if it is ours and still the inode that proved to be damaged; says so, or None."""
    with database.locked(db, exclusive=True, wait=wait) as lock:
        if not lock.ours:
            return None
        if inode(db) != damaged:
            return f"{db.name} was damaged and has been made again by another process"
        moved = database.quarantine(db)
    return f"{db.name} was damaged ({database.cause(error)}); it is now {moved.name}, and was made again from the runs"


def inode(db: Path) -> int:
    try:
        return db.stat().st_ino
    except FileNotFoundError:
        return 0


def root_key(db: Path, runs_dir: Path) -> str:
    """How the database names a folder of runs: relative to itself, so that both can be moved together."""
    return os.path.relpath(runs_dir.resolve(), db.parent.resolve())


def take_in(connection: duckdb.DuckDBPyConnection, runs_dir: Path, root: str) -> Ingested:
    """Everything that is new under `runs_dir`, in transactions of bounded size."""
    began = time.monotonic()
    done = Ingested()
    if not runs_dir.is_dir():  # perhaps it is not mounted: that is no reason to forget all runs
        return done
    known = load.known_sources(connection, root)
    next_source = load.next_source(connection)
    gone = dict(known)
    owners = {entry.run_id: name for name, entry in known.items()}
    batch = load.Batch()
    for name, stamps in scan.run_folders(RunsDir(runs_dir)):
        done.runs += 1
        entry = gone.pop(name, None)
        if entry is not None and entry.stamps == stamps and entry.state == State.COMPLETE:
            if entry.problem:
                done.problems.append(entry.problem)
            continue
        visit = _Visit(RunPaths(runs_dir / name), root, stamps, entry, owners, next_source)
        for change in visit.changes():
            batch.add(change)
            if batch.bytes > _BATCH_BYTES or len(batch.changes) >= _BATCH_RUNS:
                _flush(connection, batch, done)
        next_source = visit.next_source
        if visit.problem:
            done.problems.append(visit.problem)
        done.changed += visit.changed
    _flush(connection, batch, done)
    load.forget(connection, [entry.source for entry in gone.values()])
    done.problems += load_studies.take_in(connection, RunsDir(runs_dir), root)
    done.seconds = time.monotonic() - began
    return done


def _flush(connection: duckdb.DuckDBPyConnection, batch: load.Batch, done: Ingested) -> None:
    if batch.changes:
        done.records += sum(len(change.lines) for change in batch.changes)
        done.problems += load.store(connection, batch.changes)
        batch.clear()


class _Visit:
    """One look at one run directory: what the database does not know yet."""

    def __init__(
        self,
        paths: RunPaths,
        root: str,
        stamps: Stamps,
        known: Known | None,
        owners: dict[str, str],
        next_source: int,
    ) -> None:
        self._paths, self._root, self._stamps, self._known = paths, root, stamps, known
        self._owners = owners
        self.next_source = next_source
        self.problem: str | None = None
        self.changed = False
        self._replaces: int | None = None

    def changes(self) -> Iterator[Change]:
        try:
            yield from self._changes()
        except (RecordError, OSError) as error:
            self.problem = str(error)

    def _changes(self) -> Iterator[Change]:
        known = self._known
        if known is not None and not self._is_still(known):
            self._replaces = known.source
            known = None
        if known is None:
            known = self._new()
            if known is None:
                return
        yield from self._differences(known)

    def _is_still(self, known: Known) -> bool:
        """Whether this is the run that the database knows: not made anew, cut or restored from a backup.

        Stamps alone do not tell: they change when the whole folder is copied.
        """
        same_journal = known.stamps.journal == self._stamps.journal
        if known.stamps.identity == self._stamps.identity:
            return same_journal or scan.continues(self._paths.journal, known.place)
        same_run = directory.read_identity(self._paths).run_id == known.run_id
        return same_run and known.place.end > 0 and scan.continues(self._paths.journal, known.place)

    def _new(self) -> Known | None:
        identity = directory.read_identity(self._paths)
        owner = self._owners.setdefault(identity.run_id, self._paths.name)
        if owner != self._paths.name and (self._paths.root.parent / owner).is_dir():
            self.problem = f"{self._paths.root}: the same run as {owner}; only that one is shown"
            return None
        self._owners[identity.run_id] = self._paths.name
        source = self.next_source
        self.next_source += 1
        return Known(source, self._paths.name, identity.run_id, Stamps("", "", "", ""))

    def _differences(self, known: Known) -> Iterator[Change]:
        run = self._run_row(known)
        state = self._state_row(known)
        noted = self._notes_row(known)
        change = Change(self._root, known, run, state, noted, self._replaces)
        if known.stamps.journal != self._stamps.journal:
            for line in scan.lines(self._paths.journal, known.place.end):
                change.add(line)
                if change.bytes > _BATCH_BYTES:
                    self.changed = True
                    yield change
                    change = Change(self._root, change.known)
            self.problem = self.problem or scan.damage(self._paths.journal, change.known.place.end)
        elif known.problem and not self.problem and not (noted and self._is_about_notes(known.problem)):
            self.problem = known.problem
        change.final = (self._stamps, self.problem)
        if change.known != known or state or run or noted:
            self.changed = True
            yield change

    def _run_row(self, known: Known) -> tuple[object, ...] | None:
        if (known.stamps.identity, known.stamps.config) == (self._stamps.identity, self._stamps.config):
            return None
        identity = directory.read_identity(self._paths)
        try:
            config = directory.read_config(self._paths)
        except RecordError as error:
            self.problem = str(error)
            config = directory.RunConfig({}, "", {})
        return load.run_row(known, identity, config)

    def _notes_row(self, known: Known) -> tuple[object, ...] | None:
        """Notes that cannot be read are shown as none, as they are when the database is made again."""
        if known.stamps.notes == self._stamps.notes:
            return None
        try:
            found = notes.read_notes(self._paths)
        except RecordError as error:
            self.problem = str(error)
            found = notes.NONE
        return load.notes_row(known, found)

    def _is_about_notes(self, problem: str) -> bool:
        return problem.startswith(f"{self._paths.notes}:")

    def _state_row(self, known: Known) -> tuple[object, ...] | None:
        try:
            now = status(self._paths)
        except RecordError as error:
            self.problem = str(error)
            now = Status(State.FAILED, None, str(error))
        if known.version and now == Status(known.state, known.reason, known.message):
            return None
        return load.state_row(known, now)
