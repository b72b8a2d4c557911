"""Frames of a data set in KITTI's official layout, named by split lists in monodepth2's format or BTS's:

root/raw/<date>/<drive>/image_0{2,3}/data/<frame:010d>.png                                   (or .jpg)
root/data_depth_annotated/{train,val}/<drive>/proj_depth/groundtruth/image_0{2,3}/<frame:010d>.png
root/[split/]{train,val,test}_files.txt                                     date/drive frame l|r
root/[split/]eigen_{train,val,test}_files_with_gt.txt
    date/drive/image_02/data/0000000069.png drive/proj_depth/groundtruth/image_02/0000000069.png 721.5377

A frame has the same name in both formats, so that the same frames are the same run. `None` in place of a depth map
says that there is none. The focal length is not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import SPLITS, Frame, Split, SplitName, folder_names
from ablate.depth.data.images import load_depth, load_image, load_raw_depth
from ablate.depth.data.listed import Listed
from ablate.errors import DataError

__all__ = [
    "KITTI",
    "SPLITS",
    "Frame",
    "Kitti",
    "Split",
    "list_digest",
    "list_files",
    "load_depth",
    "load_image",
    "load_raw_depth",
    "read_split",
]

_CAMERAS = {"l": "image_02", "r": "image_03"}
_SIDES = {camera: side for side, camera in _CAMERAS.items()}
_EXAMPLE = "2011_09_26/2011_09_26_drive_0001_sync 5 l"

# Names hold no dot and no slash, so that a list can name nothing outside the data set.
_NAME = r"[A-Za-z0-9_-]+"
_LINE = re.compile(rf"({_NAME})/({_NAME})\s+([0-9]{{1,10}})\s+([lr])", re.ASCII)
_BTS_LINE = re.compile(
    rf"({_NAME})/({_NAME})/(image_0[23])/data/([0-9]{{10}})\.(?:png|jpg)\s+"
    r"(?:None|(\2/proj_depth/groundtruth/\3/\4\.png))(?:\s+[0-9]{1,6}(?:\.[0-9]{1,9})?)?",
    re.ASCII,
)


class _Entry(NamedTuple):
    date: str
    drive: str
    frame: int
    side: str
    has_depth: bool = True
    """False where a list in BTS's format says None."""

    @property
    def name(self) -> str:
        return f"{self.date}/{self.drive} {self.frame} {self.side}"


class Kitti(Listed[_Entry]):
    """KITTI's raw frames with the depth maps of its depth benchmark: 16-bit PNGs of metres x 256."""

    name: ClassVar[str] = "kitti"
    protocol: ClassVar[str] = "kitti"
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = {
        name: (f"{name}_files.txt", f"eigen_{name}_files_with_gt.txt") for name in SPLITS
    }
    example: ClassVar[str] = _EXAMPLE
    sample: ClassVar[str] = "ablate data sample {root}"

    def entry(self, path: Path, number: int, text: str) -> _Entry:
        return _entry(path, number, text)

    def finder(self, root: Path, which: SplitName) -> _Finder:
        return _Finder(root)

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        return load_depth(path)

    def drive_of(self, name: str) -> str | None:
        return name.partition(" ")[0].rpartition("/")[2]

    def place_of(self, name: str) -> tuple[str, int] | None:
        drive, frame, side = name.split(" ")
        return f"{drive} {side}", int(frame)


KITTI = Kitti()


def list_files(root: Path, split: Path | None) -> dict[str, Path]:
    """See `Dataset.list_files`."""
    return KITTI.list_files(root, split)


def read_split(root: Path, split: Path | None, which: SplitName) -> Split:
    """See `Dataset.read_split`."""
    return KITTI.read_split(root, split, which)


def list_digest(path: Path) -> str:
    """See `Dataset.list_digest`."""
    return KITTI.list_digest(path)


def _entry(path: Path, number: int, text: str) -> _Entry:
    match = _LINE.fullmatch(text)
    if match:
        return _Entry(match[1], match[2], int(match[3]), match[4])
    match = _BTS_LINE.fullmatch(text)
    if match:
        return _Entry(match[1], match[2], int(match[4]), _SIDES[match[3]], match[5] is not None)
    shown = text if len(text) <= 80 else text[:77] + "..."
    raise DataError(
        f"{path}:{number}: {shown!r} is not `date/drive frame l|r`, such as `{_EXAMPLE}`, nor a line in BTS's format, "
        "`date/drive/image_02/data/0000000005.png drive/proj_depth/groundtruth/image_02/0000000005.png focal`"
    )


class _Finder:
    """Finds the files of frames by listing each folder once: one call per drive and camera, not per frame."""

    def __init__(self, root: Path) -> None:
        self._raw = root / "raw"
        self._annotated = [root / "data_depth_annotated" / part for part in ("train", "val")]
        self._images = cache(self._image_folder)
        self._depths = cache(self._depth_folders)

    def image(self, entry: _Entry) -> tuple[Path, bool]:
        """The image file of a frame, and whether it exists."""
        folder, names = self._images(entry.date, entry.drive, entry.side)
        candidates = [f"{entry.frame:010d}{suffix}" for suffix in (".png", ".jpg")]
        for name in candidates:
            if name in names:
                return folder / name, True
        return folder / candidates[0], False

    def depth(self, entry: _Entry) -> Path | None:
        name = f"{entry.frame:010d}.png"
        for folder, names in self._depths(entry.drive, entry.side):
            if name in names:
                return folder / name
        return None

    def _image_folder(self, date: str, drive: str, side: str) -> tuple[Path, frozenset[str]]:
        folder = self._raw / date / drive / _CAMERAS[side] / "data"
        return folder, folder_names(folder)

    def _depth_folders(self, drive: str, side: str) -> list[tuple[Path, frozenset[str]]]:
        folders = [part / drive / "proj_depth" / "groundtruth" / _CAMERAS[side] for part in self._annotated]
        return [(folder, folder_names(folder)) for folder in folders]
