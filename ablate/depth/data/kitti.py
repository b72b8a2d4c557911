"""Frames of a data set in KITTI's official layout, named by split lists:

root/raw/<date>/<drive>/image_0{2,3}/data/<frame:010d>.png                                   (or .jpg)
root/data_depth_annotated/{train,val}/<drive>/proj_depth/groundtruth/image_0{2,3}/<frame:010d>.png
root/[split/]{train,val,test}_files.txt                                     date/drive frame l|r
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from ablate.depth.data.images import load_depth, load_image, load_raw_depth
from ablate.errors import DataError

__all__ = [
    "SPLITS",
    "Frame",
    "Split",
    "list_digest",
    "list_files",
    "load_depth",
    "load_image",
    "load_raw_depth",
    "read_split",
]

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

_CAMERAS = {"l": "image_02", "r": "image_03"}
_EXAMPLE = "2011_09_26/2011_09_26_drive_0001_sync 5 l"
# Names hold no dot and no slash, so that a list can name nothing outside the data set.
_LINE = re.compile(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)\s+([0-9]{1,10})\s+([lr])", re.ASCII)


@dataclass(frozen=True)
class Frame:
    """One image and its depth map; `name` is the line of the split list, `date/drive frame l|r`."""

    name: str
    image: Path
    depth: Path


@dataclass(frozen=True)
class Split:
    """The frames of one list, in its order.

    `without_depth` names those that have no depth map; `without_image` holds the image files that are expected and
    do not exist, whether or not the frame has depth.
    """

    frames: tuple[Frame, ...]
    without_depth: tuple[str, ...] = ()
    without_image: tuple[Path, ...] = ()


class _Entry(NamedTuple):
    date: str
    drive: str
    frame: int
    side: str

    @property
    def name(self) -> str:
        return f"{self.date}/{self.drive} {self.frame} {self.side}"


def list_files(root: Path, split: Path | None) -> dict[str, Path]:
    """The list files that exist, by split name.

    split: their folder, relative to root or absolute; root itself if None. Raises DataError, naming the path and the
    remedy, if the train or the val list is absent. Only the test list may be.
    """
    folder = root / split if split is not None else root
    files = {name: folder / f"{name}_files.txt" for name in SPLITS}
    found: dict[str, Path] = {name: path for name, path in files.items() if path.is_file()}
    for name in ("train", "val"):
        if name not in found:
            raise DataError(f"{files[name]}: no such file; {_remedy(root, folder)}")
    return found


def _remedy(root: Path, folder: Path) -> str:
    if not root.is_dir():
        return f"set data.root to a data set (there is no folder {root}), or make one with `ablate data sample {root}`"
    return (
        f"set data.split to the folder (now {folder}) that holds train_files.txt and val_files.txt, "
        f"with lines such as `{_EXAMPLE}`"
    )


def read_split(root: Path, split: Path | None, which: SplitName) -> Split:
    """The frames of one list, without opening any image. An absent test list gives an empty split.

    Raises DataError as `list_files`; also for a line that is malformed or repeated (with file and line number) and
    for an empty list.
    """
    files = list_files(root, split)
    if which not in files:
        return Split(())
    find = _Finder(root)
    frames: list[Frame] = []
    without_depth: list[str] = []
    without_image: list[Path] = []
    for entry in _entries(files[which]):
        image, exists = find.image(entry)
        depth = find.depth(entry)
        if not exists:
            without_image.append(image)
        if depth is None:
            without_depth.append(entry.name)
        else:
            frames.append(Frame(entry.name, image, depth))
    return Split(tuple(frames), tuple(without_depth), tuple(without_image))


def list_digest(path: Path) -> str:
    """SHA-256 of the frames that a list names, in order, whatever its line ends and spaces. Raises DataError."""
    status = path.stat()
    return _digest_of_version(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_of_version(path: Path, size: int, mtime_ns: int) -> str:
    """Read once per process: the cells of a study share their lists."""
    return hashlib.sha256("".join(f"{entry.name}\n" for entry in _entries(path)).encode()).hexdigest()


def _entries(path: Path) -> list[_Entry]:
    """The lines of a list. Raises DataError."""
    lines: dict[_Entry, int] = {}
    for number, text in _lines(path):
        match = _LINE.fullmatch(text)
        if not match:
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DataError(f"{path}:{number}: {shown!r} is not `date/drive frame l|r`, such as `{_EXAMPLE}`")
        entry = _Entry(match[1], match[2], int(match[3]), match[4])
        if entry in lines:
            raise DataError(
                f"{path}:{number}: {entry.name} is already on line {lines[entry]}; delete one of the two lines"
            )
        lines[entry] = number
    if not lines:
        raise DataError(f"{path}: names no frame; expected lines such as `{_EXAMPLE}`")
    return list(lines)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


class _Finder:
    """Finds the files of frames by listing each folder once: one call per drive and camera, not per frame."""

    def __init__(self, root: Path) -> None:
        self._raw = root / "raw"
        self._annotated = [root / "data_depth_annotated" / part for part in ("train", "val")]
        self._names = cache(_names)

    def image(self, entry: _Entry) -> tuple[Path, bool]:
        """The image file of a frame, and whether it exists."""
        folder = self._raw / entry.date / entry.drive / _CAMERAS[entry.side] / "data"
        names = self._names(folder)
        candidates = [f"{entry.frame:010d}{suffix}" for suffix in (".png", ".jpg")]
        for name in candidates:
            if name in names:
                return folder / name, True
        return folder / candidates[0], False

    def depth(self, entry: _Entry) -> Path | None:
        name = f"{entry.frame:010d}.png"
        for part in self._annotated:
            folder = part / entry.drive / "proj_depth" / "groundtruth" / _CAMERAS[entry.side]
            if name in self._names(folder):
                return folder / name
        return None


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
