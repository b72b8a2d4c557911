"""Generated data sets: the same for everybody, made once, never half made.

A claim (`street.json`) takes the folder first, frames follow, and the split lists come last: a set without lists is
unfinished. Nothing here reads a set back: the readers of the layouts do, as they read the real ones.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablate.depth.data.base import SPLITS
from ablate.depth.data.pfm import pfm_bytes
from ablate.errors import UsageError
from ablate.runs.files import write_atomic, write_lagging

Say = Callable[[str], None]

FRAMES_PER_DRIVE = 32

_FORMAT = 1
"""Raised when the same seed gives other bytes."""


@dataclass(frozen=True)
class Place:
    """One frame: its split, the numbers it is drawn from, its line in the list, and its files below the folder."""

    split: str
    drive: int
    frame: int
    line: str
    image: Path
    depth: Path
    mask: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.image, self.depth) if self.mask is None else (self.image, self.depth, self.mask)


@dataclass(frozen=True)
class Layout:
    """A kind of generated set."""

    what: str
    """In sentences: street, room; its first word names the claim."""
    lists: Mapping[str, str]
    """The list file of each split."""
    place: Callable[[str, int, int], Place]
    """(split, drive, frame) -> where it goes."""
    first_drive: int
    draw: Callable[[np.random.Generator], tuple[NDArray[Any], ...]]
    """What each of a place's files holds: a picture (HW3, RGB), its depth map as it is stored (HW), and its mask."""

    @property
    def claim(self) -> str:
        return f"{self.what.split()[0].lower()}.json"

    def list_file(self, folder: Path, split: str) -> Path:
        return folder / self.lists[split]

    def places(self, frames: Mapping[str, int]) -> list[Place]:
        found, drive = [], self.first_drive
        for split in SPLITS:
            count = frames.get(split, 0)
            for first in range(0, count, FRAMES_PER_DRIVE):
                found += [self.place(split, drive, frame) for frame in range(min(FRAMES_PER_DRIVE, count - first))]
                drive += 1
        return found


def make(folder: Path, layout: Layout, *, frames: Mapping[str, int], seed: int, say: Say) -> None:
    """Writes a set of `frames["train"]`, `["val"]` and `["test"]` frames, each split on drives of its own.

    A folder that holds that very set already is left alone; one whose making was interrupted is finished. Raises
    UsageError, writing nothing, if the folder holds anything else, or if train or val would have no frame.
    """
    claim = _claim(frames, seed)
    places = layout.places(frames)
    if _held(folder, layout, claim) and _complete(folder, layout, places):
        say(f"{folder} holds this {layout.what} already ({len(places)} frames, seed {seed}): nothing to do")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        layout.list_file(folder, name).unlink(missing_ok=True)
    write_atomic(folder / layout.claim, claim)
    for place in {(place.split, place.drive): place for place in places}.values():
        for path in place.files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
    _draw(folder, layout, places, seed, say)
    for name in reversed(SPLITS):
        lines = _lines(places, name)
        if lines:
            write_atomic(layout.list_file(folder, name), lines)
    counts = ", ".join(f"{frames.get(name, 0)} {name}" for name in SPLITS)
    say(f"{folder}: a {layout.what} of {len(places)} frames ({counts}), seed {seed}")


def _claim(frames: Mapping[str, int], seed: int) -> bytes:
    """What the set is made of, as bytes. Raises UsageError if there can be no such set."""
    unknown = set(frames) - set(SPLITS)
    if unknown:
        raise UsageError(f"no such split: {', '.join(sorted(unknown))}; expected {', '.join(SPLITS)}")
    for name in SPLITS:
        least = 0 if name == "test" else 1
        if not least <= frames.get(name, 0) <= 100_000:
            raise UsageError(f"{frames.get(name, 0)} {name} frames: expected {least} to 100000")
    if seed < 0:
        raise UsageError(f"seed {seed}: expected 0 or more")
    made: dict[str, Any] = {
        "made by": "ablate data sample",
        "format": _FORMAT,
        "seed": seed,
        "frames": {name: frames.get(name, 0) for name in SPLITS},
    }
    return (json.dumps(made, indent=2) + "\n").encode()


def _held(folder: Path, layout: Layout, claim: bytes) -> bool:
    """Whether the folder holds this set or part of it, rather than nothing. Raises UsageError if it is not ours."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name a new or an empty one")
    claimed = folder / layout.claim
    if not claimed.is_file():
        if any(folder.iterdir()):
            raise UsageError(
                f"{folder} holds something else than a generated {layout.what}; name a new or an empty folder"
            )
        return False
    if claimed.read_bytes() != claim:
        raise UsageError(
            f"{folder} holds another generated {layout.what} (see {claimed}); name another folder, or delete this one"
        )
    return True


def _complete(folder: Path, layout: Layout, places: Iterable[Place]) -> bool:
    for name in SPLITS:
        expected, file = _lines(places, name), layout.list_file(folder, name)
        if (file.read_bytes() if file.is_file() else b"") != expected:
            return False
    return all(_has_bytes(folder / path) for place in places for path in place.files)


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _lines(places: Iterable[Place], split: str) -> bytes:
    return "".join(f"{place.line}\n" for place in places if place.split == split).encode()


def _draw(folder: Path, layout: Layout, places: list[Place], seed: int, say: Say) -> None:
    """Every frame depends on its own seed alone, so that threads cannot change it."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for done, _ in enumerate(pool.map(lambda place: _draw_one(folder, layout, place, seed), places), 1):
            if done % 100 == 0:
                say(f"{folder}: {done} of {len(places)} frames drawn")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the frames in hand, not for all


def _draw_one(folder: Path, layout: Layout, place: Place, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, place.drive, place.frame])))
    for path, pixels in zip(place.files, layout.draw(rng), strict=True):
        _write(folder / path, pixels)


def _write(path: Path, pixels: NDArray[Any]) -> None:
    """Aside, then renamed: a kill leaves no half file. Not fsynced: the check before training finds what a power cut
    spoils, and two fsyncs per frame would take longer than drawing it."""
    content = io.BytesIO()
    if path.suffix == ".jpg":
        Image.fromarray(pixels).save(content, "JPEG", quality=95)
    elif path.suffix == ".pfm":
        content.write(pfm_bytes(pixels))
    else:
        Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    write_lagging(path, content.getvalue())
