"""What a study says about its cells for people to read: `notes`, and `unknown` settings.

A study that repeats work of others can say what they wrote about it, and which settings they never stated. Nothing
here can change a result, so nothing here is part of a run's identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablate.study.matching import MatchReader, matches
from ablate.study.model import Note, Study, Unknown
from ablate.study.yaml import Trail, shown

if TYPE_CHECKING:
    from ablate.study.grid import Cell

SECTIONS = ("notes", "unknown")
MAX_NOTE = 1000
UNKNOWN = "unknown"
"""What tables show in place of a value that the source does not state."""


class RemarksReader(MatchReader):
    """Reads the two sections; what is wrong is added to the problems of its reader."""

    def notes(self) -> tuple[Note, ...]:
        found = []
        for trail, entry in self.entries("notes", "text", "what a reader of the results must know"):
            text = self.text((*trail, "text"), entry["text"], "a note", MAX_NOTE)
            if text is not None:
                found.append(Note(match=self.match(trail, entry), text=text))
        return tuple(found)

    def unknown(self) -> tuple[Unknown, ...]:
        found = []
        for trail, entry in self.entries("unknown", "settings", "a list of settings that the source does not state"):
            keys = self._keys((*trail, "settings"), entry["settings"])
            if keys:
                found.append(Unknown(match=self.match(trail, entry), settings=keys))
        return tuple(found)

    def _keys(self, trail: Trail, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self.wrong(trail, f"expected a list of settings, found {shown(value)}", "such as [train.lr, seed]")
            return ()
        good = []
        for index, key in enumerate(value):
            if not isinstance(key, str):
                self.wrong((*trail, index), f"expected the name of a setting, found {shown(key)}")
            elif key == "seed" or key in self.reader.known.groups or self.reader.knows(key, (*trail, index)):
                good.append(key)
        return tuple(dict.fromkeys(good))


def notes_of(study: Study, cell: Cell) -> tuple[str, ...]:
    """All that is noted of a cell, in the order of the file."""
    return tuple(dict.fromkeys(note.text for note in study.notes if matches(note.match, cell)))


def unknown_of(study: Study, cell: Cell) -> tuple[str, ...]:
    """The settings, by dotted key, that the source of a cell does not state."""
    return tuple(dict.fromkeys(key for entry in study.unknown if matches(entry.match, cell) for key in entry.settings))


def is_unknown(key: str, unknown: tuple[str, ...]) -> bool:
    """Whether a setting, or the group it is in, is not stated."""
    return any(key == other or key.startswith(f"{other}.") for other in unknown)
