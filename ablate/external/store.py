"""Found runs become directories and cells of a study; what is there already stays as it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.errors import RecordError, UsageError
from ablate.runs import directory, external, files, notes
from ablate.runs.directory import RunConfig, RunIdentity
from ablate.runs.external import Entry
from ablate.runs.lease import Lease
from ablate.runs.notes import Notes
from ablate.runs.origin import Origin
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome
from ablate.study.identity import ID_LENGTH, canonical_json, plain, run_name
from ablate.study.parse import NAME
from ablate.study.record import CellRecord, StudyRecord
from ablate.study.settings import catalogue, freeze, nest
from ablate.task import Task

RECIPE = 1
"""Raised when the same source would be read as something else: part of the ids of imported runs."""


@dataclass(frozen=True)
class Found:
    """A run of a source. `stated` are settings by dotted key; `said` is what the source tells people of it.

    `content` is what the run's id is made of: all that the source says of this run, and nothing of other runs.
    `kept` are the notes and tags that it brings.
    """

    origin: Origin
    slug: str
    stated: Mapping[str, Any]
    entries: tuple[Entry, ...]
    outcome: Outcome
    content: Any
    command: str
    said: tuple[str, ...] = ()
    kept: Notes = notes.NONE


@dataclass
class Taken:
    """What an import did, as names of run directories; `changed` are (before, now), of which both are kept."""

    new: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Runs of the same source that it no longer holds: they leave the study, and stay in the folder of runs."""


def unstated(task: Task, stated: Iterable[str], excluded: Iterable[str] = ()) -> tuple[str, ...]:
    """The settings that a source does not state, by dotted key; a group of which it states nothing by its own.

    `excluded` are settings that do not apply, given what it states.
    """
    known = {*stated, *excluded}
    found: dict[str, None] = {}
    for key in catalogue(task.Config).settings:
        if key not in known:
            parts = key.split(".")
            groups = [".".join(parts[:end]) for end in range(1, len(parts))]
            found[next((group for group in groups if not _states(known, group)), key)] = None
    return tuple(found)


def _states(known: set[str], group: str) -> bool:
    return any(key.startswith(f"{group}.") for key in known)


def study_name(text: str) -> str:
    """A name for a study out of that of a file: 'progreso (1)' -> 'progreso -1'. Raises UsageError if nothing is left."""
    name = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9 ._-]+", "-", text))[:64].strip(" .-_")
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{text!r} cannot name a study; give a name with --study NAME")
    return name


def checked_name(name: str) -> str:
    """Raises UsageError for what cannot name a study."""
    if not re.fullmatch(NAME, name) or ".." in name:
        raise UsageError(f"--study {name!r}: use up to 64 letters, digits, spaces, `.`, `_` and `-`")
    return name


def take_in(found: Sequence[Found], runs: RunsDir, study: str, task: Task) -> Taken:
    """Makes the directories of runs that are new, and puts all into the study's record, which is written last.

    A run whose source says something else now is another run: the one before leaves the study. Doing it again after a
    kill, or for the same source, changes nothing but what is missing. Raises HeldError if the study is being trained,
    UsageError if it is one of another task, RecordError if a record is damaged.
    """
    files.make_folder(runs.studies)
    with Lease.acquire(runs.study_lease(study), f"study {study}"):
        path = runs.study(study)
        before = _record(path) if path.exists() else None
        if before is not None and before.task != task.name:
            raise UsageError(f"{study} is a study of the task {before.task!r}; give another name with --study")
        earlier = _Earlier(before, found, runs)
        taken = Taken()
        cells = [_cell(_make(item, runs, task, earlier, taken), item) for item in found]
        taken.gone = earlier.left()
        now = _declared(before, cells, earlier, study, task)
        if now != before:
            files.write_atomic(path, now.to_json().encode())
    return taken


def forget(runs: RunsDir, run_ids: Iterable[str]) -> None:
    """Imported runs that were removed leave the studies that they were put into: nobody could train them anew.

    Raises HeldError if such a study is being trained, RecordError if its record is damaged.
    """
    gone = set(run_ids)
    for path in sorted(runs.studies.glob("*.json")) if gone and runs.studies.is_dir() else []:
        if not any(cell.run_id in gone and cell.current for cell in _record(path).cells):
            continue
        with Lease.acquire(runs.study_lease(path.stem), f"study {path.stem}"):
            before = _record(path)
            cells = tuple(replace(cell, current=cell.current and cell.run_id not in gone) for cell in before.cells)
            files.write_atomic(path, replace(before, cells=cells).to_json().encode())


def _record(path: Path) -> StudyRecord:
    return StudyRecord.from_json(files.read_plain(path), str(path))


class _Earlier:
    """The cells of a study that came from the same sources and that they no longer hold as they were."""

    def __init__(self, before: StudyRecord | None, found: Sequence[Found], runs: RunsDir) -> None:
        sources = {(item.origin.kind, item.origin.file) for item in found}
        ids = {_digest(item)[1] for item in found}
        self.names = {name.rpartition("-")[2]: name for name in runs.names()}
        self.known: set[str] = set()
        self.superseded: set[str] = set()
        self.places: dict[str, int] = {}
        """Run id -> the place in the study that a run takes over from the one before."""
        self._by_row: dict[tuple[str, str, int], list[CellRecord]] = {}
        for cell in before.cells if before else ():
            if not (cell.current and cell.added):
                continue
            self.known.add(cell.run_id)
            origin = _origin(runs.run(cell.name))
            if origin and (origin.kind, origin.file) in sources and cell.run_id not in ids:
                self.superseded.add(cell.run_id)
                self._by_row.setdefault((origin.kind, origin.file, origin.row), []).append(cell)

    def followed_by(self, run_id: str, origin: Origin) -> CellRecord | None:
        """The run that was this row of this source until now; each is given once."""
        rows = self._by_row.get((origin.kind, origin.file, origin.row))
        if run_id in self.known or not rows:
            return None
        cell = rows.pop(0)
        self.places[run_id] = cell.position
        return cell

    def left(self) -> list[str]:
        return [cell.name for rows in self._by_row.values() for cell in rows]


def _origin(paths: RunPaths) -> Origin | None:
    try:
        return directory.read_identity(paths).external
    except (FileNotFoundError, RecordError):  # removed, or damaged: `ablate doctor` says so
        return None


def _make(item: Found, runs: RunsDir, task: Task, earlier: _Earlier, taken: Taken) -> RunIdentity:
    identity = _identity(item, earlier.names, task)
    there = runs.run(identity.name).identity.exists()
    before = earlier.followed_by(identity.run_id, item.origin)
    kept = item.kept
    if before is not None and not there:
        kept = _joined(notes.read_notes(runs.run(before.name)), kept)
    config = RunConfig(nest(item.stated), item.command, {})
    external.create(runs, identity, config, item.entries, item.outcome, kept)
    if before is not None:
        taken.changed.append((before.name, identity.name))
    elif there and identity.run_id in earlier.known:
        taken.unchanged.append(identity.name)
    elif identity.name not in taken.new:
        taken.new.append(identity.name)
    return identity


def _joined(first: Notes, second: Notes) -> Notes:
    """What people wrote about a row stays with it when the row changes."""
    known = {note.text for note in first.notes}
    more = tuple(
        replace(note, number=first.next + place)
        for place, note in enumerate(note for note in second.notes if note.text not in known)
    )
    tags = tuple(dict.fromkeys((*first.tags, *second.tags)))
    return replace(first, notes=(*first.notes, *more), tags=tags, next=first.next + len(more))


def _digest(item: Found) -> tuple[str, str]:
    """(hash, run id) as measured runs have them, over what the source says of the run."""
    content = {"external": item.origin.kind, "recipe": RECIPE, "content": item.content}
    digest = hashlib.sha256(canonical_json(content).encode("ascii"))
    return digest.hexdigest(), base64.b32encode(digest.digest()).decode("ascii").lower()[:ID_LENGTH]


def _identity(item: Found, there: Mapping[str, str], task: Task) -> RunIdentity:
    """A run that is there already keeps its name; `there` has the names of all by their ids."""
    digest, run_id = _digest(item)
    return RunIdentity(
        run_id=run_id,
        hash=digest,
        name=there.get(run_id) or run_name(item.slug, run_id),
        task=task.name,
        recipe=RECIPE,
        settings={key: plain(value) for key, value in item.stated.items()},
        digests={},
        created=0.0,
        external=item.origin,
    )


def _cell(identity: RunIdentity, item: Found) -> CellRecord:
    seed = item.stated.get("seed")
    return CellRecord(
        run_id=identity.run_id,
        name=identity.name,
        position=0,
        settings={key: value for key, value in identity.settings.items() if key != "seed"},
        seed=seed if isinstance(seed, int) else 0,
        notes=item.said,
        unknown=item.origin.unknown,
        added=True,
    )


def _declared(
    before: StudyRecord | None, cells: Sequence[CellRecord], earlier: _Earlier, study: str, task: Task
) -> StudyRecord:
    """The study's record with these cells; what its file declared stays as it was, and cells keep their places."""
    if before is None:
        text = json.dumps({"study": study, "task": task.name}) + "\n"
        before = StudyRecord(study, task.name, "ablate import", text, (), {}, time.time(), (), {}, ())
    fresh = {cell.run_id: cell for cell in cells}
    kept = []
    for old in before.cells:
        new = fresh.pop(old.run_id, None)
        if new is not None:
            old = replace(new, position=earlier.places.get(old.run_id, old.position))
        kept.append(replace(old, current=False) if old.run_id in earlier.superseded else old)
    behind = 1 + max((cell.position for cell in before.cells), default=-1)
    added = tuple(
        replace(cell, position=earlier.places.get(cell.run_id, behind + place))
        for place, cell in enumerate(fresh.values())
    )
    axes = tuple(dict.fromkeys((*before.axes, *_varying(cells))))
    return replace(before, axes=axes, cells=(*kept, *added))


def _varying(cells: Sequence[CellRecord]) -> list[str]:
    """The settings in which the cells of a source differ, also by not stating them."""
    keys = dict.fromkeys(key for cell in cells for key in cell.settings)
    return [key for key in keys if len({freeze(cell.settings.get(key)) for cell in cells}) > 1]
