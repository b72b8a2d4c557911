"""What the folder of runs holds now, compared by stamps so that unchanged runs cost a few `stat` calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.runs import files, journal
from ablate.runs.journal import Record
from ablate.runs.paths import RunPaths, RunsDir


@dataclass(frozen=True)
class Stamps:
    """Size, time and inode of each file of a run; empty where there is none."""

    identity: str
    config: str
    outcome: str
    journal: str
    notes: str = ""


@dataclass(frozen=True)
class Place:
    """The last line of a journal that was read: where it starts and ends (bytes), and its checksum."""

    start: int = 0
    end: int = 0
    crc: int = 0


START = Place()


@dataclass(frozen=True)
class Text:
    """A journal record, and the JSON text that it was made from."""

    record: Record
    text: str
    place: Place


def stamp(path: str | Path) -> str:
    """Changes whenever the file is written, replaced or removed."""
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - ten thousand Path objects are slow
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"


def run_folders(runs_dir: RunsDir) -> Iterator[tuple[str, Stamps]]:
    """Name and stamps of every run directory, by name."""
    try:
        with os.scandir(runs_dir.root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return
    root = str(runs_dir.root)
    # The file names are asked of `RunPaths` once, not once per run.
    wanted = [path.name for path in _watched(RunPaths(runs_dir.root))]
    for name in names:
        folder = f"{root}{os.sep}{name}{os.sep}"
        identity = stamp(folder + wanted[0])
        if identity:
            yield name, Stamps(identity, *(stamp(folder + file) for file in wanted[1:]))


def _watched(paths: RunPaths) -> tuple[Path, ...]:
    return paths.identity, paths.config, paths.outcome, paths.journal, paths.notes


def lines(path: Path, offset: int) -> Iterator[Text]:
    """The whole records from byte `offset` on, as `journal.read` gives them, with their text."""
    try:
        file = files.open_plain(path)
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            try:
                record = journal.decode(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                return
            place = Place(offset, offset + len(line), int(line[:8], 16))
            offset = place.end
            yield Text(record, line[9:-1].decode(), place)


def continues(path: Path, place: Place) -> bool:
    """Whether the journal still holds the line that was read last, where it was."""
    if place.end == 0:
        return True
    first = next(lines(path, place.start), None)
    return first is not None and first.place == place


def damage(path: Path, end: int) -> str | None:
    """Says so if whole lines follow the first one that is not; a torn last line is none of our business."""
    try:
        with files.open_plain(path) as file:
            file.seek(end)
            file.readline()
            if not file.readline().endswith(b"\n"):
                return None
    except FileNotFoundError:
        return None
    return f"{path}: damaged at byte {end}; what was recorded after it is not shown"
