"""Runs that were imported: directories like all others, with nothing in them to resume."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablate.errors import RecordError, UsageError
from ablate.runs import directory, disk, files, journal, notes, states
from ablate.runs.directory import RunConfig, RunIdentity
from ablate.runs.journal import Record, RecordType
from ablate.runs.notes import Notes
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome


@dataclass(frozen=True)
class Entry:
    """What an imported run records: a line of its journal."""

    type: RecordType
    epoch: int
    step: int
    body: dict[str, Any]


def create(
    runs: RunsDir,
    identity: RunIdentity,
    config: RunConfig,
    entries: Sequence[Entry],
    outcome: Outcome,
    kept: Notes = notes.NONE,
) -> RunPaths:
    """Makes the directory of an imported run, whole or not at all; one that is there stays as it is.

    `kept` are the notes that it starts with. Raises RecordError if another run sits at its place.
    """
    paths = runs.run(identity.name)
    if not paths.identity.exists():
        files.make_folder(runs.root)
        aside = RunPaths(runs.root / f".{identity.name}.{os.getpid()}{files.TEMPORARY}")
        disk.remove_tree(aside.root)
        disk.make_folder(aside.root)
        _write(aside, identity, config, entries, outcome, kept)
        directory.put_in_place(aside, paths)
    if directory.read_identity(paths).hash != identity.hash:
        raise RecordError(f"{paths.root}: holds another run with the same short id")
    return paths


def _write(
    aside: RunPaths, identity: RunIdentity, config: RunConfig, entries: Sequence[Entry], outcome: Outcome, kept: Notes
) -> None:
    now = time.time()
    records = (
        Record(number, 0, entry.type, entry.epoch, entry.step, now, 0.0, entry.body)
        for number, entry in enumerate(entries, 1)
    )
    directory.write_identity(aside, replace(identity, created=identity.created or now))
    directory.write_config(aside, config)
    files.write_atomic(aside.journal, b"".join(journal.encode(record) for record in records))
    if kept.notes or kept.tags:
        notes.write_notes(aside, kept)
    states.write_outcome(aside, outcome)


def refuse(paths: RunPaths, verb: str, instead: str = "") -> None:
    """Raises UsageError if the run was imported: there are no weights and no configuration to do that with."""
    origin = directory.read_identity(paths).external
    if origin is not None:
        raise UsageError(
            f"{paths.name} was imported ({origin.label}), so there is nothing to {verb}: its numbers are all that is here"
            + (f"; {instead}" if instead else "")
        )
