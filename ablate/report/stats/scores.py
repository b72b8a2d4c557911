"""Per-image results of several trainings, brought on to the same images and grouped by drive."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.errors import UsageError

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

_KITTI = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}(_sync|_extract)?")


@dataclass(frozen=True)
class Scores:
    """One metric of every image that all runs have a value of.

    `runs[arm][seed]` is I values, in the order of `images`; `drive_I` numbers the drive of each image from 0.
    """

    images: tuple[str, ...]
    drive_I: Whole
    runs: Mapping[str, Mapping[int, Floats]]
    left_out: int
    """Images that some run has no value of."""
    notes: tuple[str, ...] = ()

    @property
    def drives(self) -> int:
        return int(self.drive_I.max()) + 1

    def means(self) -> dict[str, dict[int, float]]:
        """The mean over the images, by arm and seed."""
        return {arm: {seed: float(row.mean()) for seed, row in seeds.items()} for arm, seeds in self.runs.items()}


def drive_by_name(image: str) -> str | None:
    """KITTI's drive if the name holds one, else the folder that the image lies in; None if it has neither."""
    if found := _KITTI.search(image):
        return found.group()
    return image.rpartition("/")[0] or None


def scores_of(
    runs: Mapping[str, Mapping[int, Mapping[str, float | None]]],
    drive_of: Callable[[str], str | None] = drive_by_name,
) -> Scores:
    """`runs[arm][seed][image]` on the images that all runs have a number for, in order of their names.

    An image without a drive counts as a drive of its own, and if there is but one drive, so does every image.
    Raises UsageError if there is no run, or no image common to all.
    """
    tables = [table for seeds in runs.values() for table in seeds.values()]
    if not tables:
        raise UsageError("there are no per-image results to compare; `ablate eval` the runs first")
    every = {image for table in tables for image in table}
    images = tuple(sorted(image for image in every if all(_finite(table.get(image)) for table in tables)))
    if not images:
        if empty := next((arm for arm, seeds in runs.items() if not _any(seeds.values())), None):
            raise UsageError(f"{empty} has no number on any image, so there is nothing to compare")
        raise UsageError(f"the {len(tables)} runs have no image in common; evaluate them on the same split")
    drive_I, notes = _drives(images, drive_of)
    values = {
        arm: {seed: np.array([table[image] for image in images], dtype=np.float64) for seed, table in seeds.items()}
        for arm, seeds in runs.items()
    }
    left_out = len(every) - len(images)
    if left_out:
        notes += (f"{left_out} of {len(every)} images left out: some run has no value of them",)
    return Scores(images, drive_I, values, left_out, notes)


def _any(tables: Iterable[Mapping[str, float | None]]) -> bool:
    return any(_finite(value) for table in tables for value in table.values())


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _drives(images: Sequence[str], drive_of: Callable[[str], str | None]) -> tuple[Whole, tuple[str, ...]]:
    names = [drive_of(image) for image in images]
    known = {name for name in names if name is not None}
    # A drive and an image may have the same name, so each key says which it is.
    keys = [
        ("drive", name) if name is not None else ("image", image) for name, image in zip(names, images, strict=True)
    ]
    if len(set(keys)) == 1:
        note = "all images are of one drive, so they count as independent; intervals say nothing of other drives"
        return np.arange(len(images), dtype=np.intp), (note,) if len(images) > 1 else ()
    number = {key: place for place, key in enumerate(sorted(set(keys)))}
    note = "the drives of the images are not known, so they count as independent; intervals may be too narrow"
    return np.array([number[key] for key in keys], dtype=np.intp), () if known else (note,)
