"""What people write about a run: notes and tags, in `notes.json`, which no training reads or writes.

Whoever changes them holds `notes.lock` meanwhile, not the run's lease: a note can be written while a run trains, and
of two that are written at once neither is lost.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from ablate.errors import RecordError, UsageError
from ablate.runs import files
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths

VERSION = 1
MAX_TEXT = 10_000
MAX_TAG = 64
MAX_ENTRIES = 10_000
_PATIENCE = 30.0
"""Seconds to wait for others who write about the same run: each takes milliseconds."""
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _text(text: str) -> str:
    if not text.strip() or len(text) > MAX_TEXT:
        raise ValueError(f"a note has 1 to {MAX_TEXT} characters")
    if odd := next((char for char in text if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"), None):
        raise ValueError(f"a note cannot hold the character U+{ord(odd):04X}")
    return text


def _tag(tag: str) -> str:
    if not tag or len(tag) > MAX_TAG or tag != tag.strip() or "," in tag:
        raise ValueError(f"a tag has 1 to {MAX_TAG} characters and no comma")
    if odd := next((char for char in tag if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029"), None):
        raise ValueError(f"a tag cannot hold the character U+{ord(odd):04X}")
    return tag


@checked(frozen=True, config=_STRICT)
class Note:
    """`number` stays with a note for good; `time` is Unix time."""

    number: int
    time: float
    text: Annotated[str, AfterValidator(_text)]


@checked(frozen=True, config=_STRICT)
class Notes:
    """All that was written about a run; `next` is the number of the next note."""

    notes: tuple[Note, ...] = ()
    tags: tuple[Annotated[str, AfterValidator(_tag)], ...] = ()
    next: int = 1
    v: int = VERSION


_NOTES = TypeAdapter(Notes)
NONE = Notes()


def read_notes(paths: RunPaths) -> Notes:
    """Raises RecordError, naming the file, if it is damaged."""
    try:
        content = files.read_plain(paths.notes)
    except FileNotFoundError:
        return NONE
    try:
        found = _NOTES.validate_json(content)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise RecordError(f"{paths.notes}: damaged: {place or 'notes'}: {detail['msg']}") from None
    if found.v != VERSION:
        raise RecordError(f"{paths.notes}: has format {found.v}, but this version of ablate reads {VERSION}")
    return found


def write_notes(paths: RunPaths, notes: Notes) -> None:
    """For a directory that nobody else knows yet; everybody else goes through the functions below."""
    files.write_json(paths.notes, asdict(notes))


def add_note(paths: RunPaths, text: str) -> Note:
    """Appends a note. Raises UsageError for a text that is none, RecordError, HeldError after half a minute."""
    text = _given(_text, text.strip())

    def change(notes: Notes) -> Notes:
        if len(notes.notes) >= MAX_ENTRIES:
            raise UsageError(f"{paths.name} has {MAX_ENTRIES} notes already; `ablate note RUN --remove N` removes one")
        note = Note(notes.next, time.time(), text)
        return replace(notes, notes=(*notes.notes, note), next=notes.next + 1)

    return _change(paths, change).notes[-1]


def remove_note(paths: RunPaths, number: int) -> Note:
    """Removes a note; its number is never given again. Raises as `add_note`, and UsageError if there is no such note."""
    gone: list[Note] = []

    def change(notes: Notes) -> Notes:
        gone[:] = [note for note in notes.notes if note.number == number]
        if not gone:
            known = ", ".join(str(note.number) for note in notes.notes) or "none"
            raise UsageError(f"{paths.name} has no note {number}; it has: {known}")
        return replace(notes, notes=tuple(note for note in notes.notes if note.number != number))

    _change(paths, change)
    return gone[0]


def add_tags(paths: RunPaths, tags: Sequence[str]) -> tuple[str, ...]:
    """Adds tags that are not there yet; returns all. Raises as `add_note`."""
    given = [_given(_tag, tag.strip()) for tag in tags]

    def change(notes: Notes) -> Notes:
        found = tuple(dict.fromkeys((*notes.tags, *given)))
        if len(found) > MAX_ENTRIES:
            raise UsageError(f"{paths.name}: more than {MAX_ENTRIES} tags")
        return replace(notes, tags=found)

    return _change(paths, change).tags


def remove_tags(paths: RunPaths, tags: Sequence[str]) -> tuple[str, ...]:
    """Removes tags; returns the others. Raises as `add_note`, and UsageError if one is not there."""
    given = [tag.strip() for tag in tags]

    def change(notes: Notes) -> Notes:
        if unknown := [tag for tag in given if tag not in notes.tags]:
            raise UsageError(f"{paths.name} has no tag {unknown[0]!r}; it has: {', '.join(notes.tags) or 'none'}")
        return replace(notes, tags=tuple(tag for tag in notes.tags if tag not in given))

    return _change(paths, change).tags


def _given(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _change(paths: RunPaths, how: Callable[[Notes], Notes]) -> Notes:
    with Lease.acquire(paths.notes_lock, f"{paths.notes}", patience=_PATIENCE):
        before = read_notes(paths)
        now = how(before)
        if now != before:
            write_notes(paths, now)
    return now
