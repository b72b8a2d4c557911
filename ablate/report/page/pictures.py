"""The panels that runs keep, as pictures for a page: as many as a page can carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from ablate.errors import RecordError
from ablate.report.page.data import Picture
from ablate.report.summary import RunSummary, StudySummary
from ablate.results.records import RunRow
from ablate.runs.panels import StoredPanel, StoredPanels, read_panels
from ablate.runs.paths import RunPaths

BUDGET = 24_000_000
"""Bytes of picture files in one study's part of a page: a browser still opens a page of that size at once."""


def pictures_of(
    summary: StudySummary, rows: Sequence[RunRow], budget: int = BUDGET
) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The pictures, and notes on what could not be read or had no room.

    Selected epochs come before others, and the first image of all runs before the second of any.
    """
    stored, notes = _stored({row.run_id: row.directory for row in rows if row.directory is not None})
    found: list[Picture] = []
    used = 0
    seen: set[bytes] = set()
    full = False
    for run, folder, epoch, split, panel in _wanted(summary.runs, stored):
        if full := used >= budget:
            break
        try:
            tiles = _tiles(folder, panel)
        except RecordError as error:
            notes.append(str(error))
            continue
        for name, picture, bar in tiles:
            found.append(Picture(run.run_id, f"{panel.image} ({split})", name, picture, epoch, bar))
            used += sum(len(data) for data in (picture, bar) if data not in seen)
            seen |= {picture, bar}
    if full:
        notes.append("not all pictures are shown: they would make this page too large; a report of fewer runs has more")
    return tuple(found), tuple(notes)


Stored = tuple[Path, tuple[StoredPanels, ...]]
Wanted = tuple[RunSummary, Path, int, str, StoredPanel]


def _stored(folders: Mapping[str, Path]) -> tuple[dict[str, Stored], list[str]]:
    found: dict[str, Stored] = {}
    notes = []
    for run_id, directory in folders.items():
        folder = RunPaths(directory).panels
        try:
            found[run_id] = folder, read_panels(folder)
        except RecordError as error:
            notes.append(str(error))
    return found, notes


def _wanted(runs: Sequence[RunSummary], stored: Mapping[str, Stored]) -> Iterator[Wanted]:
    """What is most worth showing first."""
    every: list[tuple[tuple[bool, bool, int, int], Wanted]] = []
    for place, run in enumerate(runs):
        folder, epochs = stored.get(run.run_id, (Path(), ()))
        tested = any(one.split == "test" for one in epochs)
        for one in epochs:
            for number, panel in enumerate(one.images):
                order = (one.epoch != run.selected_epoch, tested and one.split != "test", number, place)
                every.append((order, (run, folder, one.epoch, one.split, panel)))
    every.sort(key=lambda item: item[0])
    return (wanted for _, wanted in every)


@lru_cache(maxsize=2000)
def _tiles(folder: Path, panel: StoredPanel) -> tuple[tuple[str, bytes, bytes], ...]:
    """(name, picture, bar) of each layer: kept, since a page that is watched is written every few seconds."""
    from ablate.picture import bar_of
    from ablate.sheet import tiles, to_png

    return tuple(
        (tile.name, tile.png(), b"" if tile.scale is None else to_png(bar_of(tile.picture.shape[1], tile.scale)))
        for tile in tiles(folder, panel)
    )
