"""A generated street in KITTI's layout: a data set that needs no download and is the same for everybody.

`street.json` claims the folder first, frames follow, and the split lists come last: a set without lists is unfinished.
Nothing here reads it back: `ablate.depth.data.kitti` does, as it does KITTI.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ablate.depth.data.kitti import SPLITS
from ablate.depth.data.street_render import render
from ablate.depth.data.street_scene import random_scene
from ablate.errors import UsageError
from ablate.runs.files import write_atomic, write_lagging

Say = Callable[[str], None]

DEFAULT_FRAMES: Mapping[str, int] = {"train": 96, "val": 12, "test": 12}

_FORMAT = 1
"""Raised when the same seed gives other bytes."""

_CLAIM = "street.json"
_DATE = "2011_09_26"
_FRAMES_PER_DRIVE = 32
_ANNOTATED = {"train": "train", "val": "val", "test": "val"}
"""Which half of data_depth_annotated holds the drives of a split, as in KITTI."""


class _Place(NamedTuple):
    """One frame: where it goes and what it is drawn from."""

    split: str
    drive: int
    frame: int

    @property
    def name(self) -> str:
        return f"{_DATE}_drive_{self.drive:04d}_sync"

    @property
    def line(self) -> str:
        return f"{_DATE}/{self.name} {self.frame} l"

    @property
    def image(self) -> Path:
        return Path("raw", _DATE, self.name, "image_02", "data", f"{self.frame:010d}.png")

    @property
    def depth(self) -> Path:
        half = Path("data_depth_annotated", _ANNOTATED[self.split])
        return half / self.name / "proj_depth" / "groundtruth" / "image_02" / f"{self.frame:010d}.png"


def make_street(folder: Path, *, frames: Mapping[str, int], seed: int, say: Say) -> None:
    """Writes a street of `frames["train"]`, `["val"]` and `["test"]` frames, 1242x375, with sparse 16-bit depth.

    The splits stand on different drives. The same seed and numbers give the same bytes. A folder that holds that very
    street already is left alone; one whose making was interrupted is finished. Raises UsageError, writing nothing, if
    the folder holds anything else, or if train or val would have no frame.
    """
    claim = _claim(frames, seed)
    places = list(_places(frames))
    if _held(folder, claim) and _complete(folder, places):
        say(f"{folder} holds this street already ({len(places)} frames, seed {seed}): nothing to do")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        _list_file(folder, name).unlink(missing_ok=True)
    write_atomic(folder / _CLAIM, claim)
    for place in {(place.split, place.drive): place for place in places}.values():
        for path in (place.image, place.depth):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
    _draw(folder, places, seed, say)
    for name in reversed(SPLITS):
        lines = _lines(places, name)
        if lines:
            write_atomic(_list_file(folder, name), lines)
    counts = ", ".join(f"{frames.get(name, 0)} {name}" for name in SPLITS)
    say(f"{folder}: a street of {len(places)} frames ({counts}), seed {seed}")


def _claim(frames: Mapping[str, int], seed: int) -> bytes:
    """What the street is made of, as bytes. Raises UsageError if there can be no such street."""
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


def _places(frames: Mapping[str, int]) -> Iterator[_Place]:
    drive = 9001
    for split in SPLITS:
        count = frames.get(split, 0)
        for first in range(0, count, _FRAMES_PER_DRIVE):
            for frame in range(min(_FRAMES_PER_DRIVE, count - first)):
                yield _Place(split, drive, frame)
            drive += 1


def _held(folder: Path, claim: bytes) -> bool:
    """Whether the folder holds this street or part of it, rather than nothing. Raises UsageError if it is not ours."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name a new or an empty one")
    claimed = folder / _CLAIM
    if not claimed.is_file():
        if any(folder.iterdir()):
            raise UsageError(f"{folder} holds something else than a generated street; name a new or an empty folder")
        return False
    if claimed.read_bytes() != claim:
        raise UsageError(
            f"{folder} holds another generated street (see {claimed}); name another folder, or delete this one"
        )
    return True


def _complete(folder: Path, places: list[_Place]) -> bool:
    for name in SPLITS:
        expected, file = _lines(places, name), _list_file(folder, name)
        if (file.read_bytes() if file.is_file() else b"") != expected:
            return False
    return all(_has_bytes(folder / path) for place in places for path in (place.image, place.depth))


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _list_file(folder: Path, split: str) -> Path:
    return folder / f"{split}_files.txt"


def _lines(places: list[_Place], split: str) -> bytes:
    return "".join(f"{place.line}\n" for place in places if place.split == split).encode()


def _draw(folder: Path, places: list[_Place], seed: int, say: Say) -> None:
    """Every frame depends on its own seed alone, so that threads cannot change it."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for done, _ in enumerate(pool.map(lambda place: _draw_one(folder, place, seed), places), 1):
            if done % 100 == 0:
                say(f"{folder}: {done} of {len(places)} frames drawn")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the frames in hand, not for all


def _draw_one(folder: Path, place: _Place, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, place.drive, place.frame])))
    image, depth = render(random_scene(rng), rng)
    _write_png(folder / place.image, Image.fromarray(image))
    _write_png(folder / place.depth, Image.fromarray(depth))


def _write_png(path: Path, image: Image.Image) -> None:
    """Aside, then renamed: a kill leaves no half file. Not fsynced: the check before training finds what a power cut
    spoils, and two fsyncs per frame would take longer than drawing it."""
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    write_lagging(path, content.getvalue())
