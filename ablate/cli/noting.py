"""`ablate note` and `ablate tag`: what people say of a run. It survives resumes and rebuilds, and needs no lease."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from ablate.runs.notes import Note
    from ablate.runs.paths import RunPaths


def note(
    run: options.Marked,
    text: Annotated[str | None, typer.Argument(help="What to remember.", show_default=False)] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the notes of the run with their numbers.")] = False,
    remove: Annotated[
        int | None, typer.Option("--remove", metavar="N", help="Remove the note with this number.")
    ] = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Write a note about a run, also while it trains; reports and `ablate show` print it.

    Example: ablate note k3v9 "the power went out at epoch 13"
    """
    from ablate.cli.console import emit, harmless, say
    from ablate.errors import UsageError
    from ablate.runs import notes

    chosen = _find(run, db, runs_dir)
    if [text is not None, listed, remove is not None].count(True) != 1:
        raise UsageError('give one of: a text in quotes, --list, or --remove N. Example: ablate note k3v9 "text"')
    if listed:
        for paths, lead in _leads(chosen):
            for known in notes.read_notes(paths).notes:
                emit(harmless(f"{lead}{known.number:>4}  {when(known)}  {' '.join(known.text.split())}"))
        return
    if remove is not None and len(chosen) > 1:
        raise UsageError(f"{run!r} names {len(chosen)} runs; a note is removed from one at a time")
    for paths in chosen:
        if remove is not None:
            gone = notes.remove_note(paths, remove)
            say(f"{paths.name}: removed note {gone.number}: {gone.text}")
        else:
            added = notes.add_note(paths, text or "")
            say(f"{paths.name}: note {added.number}")
    _bring_in(db, runs_dir)


def tag(
    run: options.Marked,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="TAG…", help="Tags; none: print the run's.", show_default=False)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove these tags instead of adding them.")] = False,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Tag a run, also while it trains; reports and `ablate show` print its tags.

    Example: ablate tag k3v9 thesis "figure 3"
    """
    from ablate.cli.console import emit, harmless, say
    from ablate.errors import UsageError
    from ablate.runs import notes

    chosen = _find(run, db, runs_dir)
    if not tags:
        if remove:
            raise UsageError("name the tags to remove: ablate tag RUN TAG… --remove")
        for paths, lead in _leads(chosen):
            for known in notes.read_notes(paths).tags:
                emit(harmless(f"{lead}{known}"))
        return
    for paths in chosen:
        left = (notes.remove_tags if remove else notes.add_tags)(paths, tags)
        say(f"{paths.name}: {', '.join(left) or 'no tags'}")
    _bring_in(db, runs_dir)


def when(known: Note) -> str:
    """In local time, as people remember it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(known.time))


def _find(word: str, db: Path, runs_dir: Path) -> list[RunPaths]:
    """Raises UnknownRunError if no run fits."""
    from ablate.cli.chosen import chosen_paths
    from ablate.errors import UnknownRunError

    if found := chosen_paths([word], db, runs_dir):
        return found
    raise UnknownRunError(f"no run that was started fits {word!r}; `ablate ls` lists all")


def _leads(chosen: list[RunPaths]) -> Iterator[tuple[RunPaths, str]]:
    """What stands before each line of a list: the run's name, if there are several."""
    for paths in chosen:
        yield paths, f"{paths.name}  " if len(chosen) > 1 else ""


def _bring_in(db: Path, runs_dir: Path) -> None:
    """Only a database that is there, and only if nobody is at it: the next report takes the note in anyway."""
    from ablate.errors import DatabaseError
    from ablate.results import ingest

    if db.exists():
        try:
            ingest.ingest(db, runs_dir, wait=0.0)
        except (DatabaseError, OSError):
            return
