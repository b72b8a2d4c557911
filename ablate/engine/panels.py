"""The pictures of a run that its mirror shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablate.errors import RecordError
from ablate.runs.panels import StoredPanels, read_panels
from ablate.runs.paths import RunPaths

if TYPE_CHECKING:
    from PIL.Image import Image


def pictures(paths: RunPaths, split: str, epoch: int) -> dict[str, Image]:
    """The panels of a split after an epoch, each drawn as one picture, by the names of their images.

    One that is damaged is left out: `ablate report` says so.
    """
    wanted = [one for one in _stored(paths) if (one.split, one.epoch) == (split, epoch)]
    if not wanted:
        return {}
    from ablate.sheet import Row, sheet, tiles  # draws with numpy: not needed by most runs

    found = {}
    for stored in wanted:
        for panel in stored.images:
            try:
                found[panel.image] = sheet([Row(panel.image, tiles(paths.panels, panel))])
            except RecordError:
                continue
    return found


def contents(paths: RunPaths) -> list[tuple[int, str, list[str]]]:
    """What the panels of a run are, as something that changes with them: their files are named by their content."""
    return [
        (stored.epoch, stored.split, [layer.file for panel in stored.images for layer in panel.layers])
        for stored in _stored(paths)
    ]


def _stored(paths: RunPaths) -> tuple[StoredPanels, ...]:
    try:
        return read_panels(paths.panels)
    except RecordError:
        return ()
