"""Frames of NYU Depth v2 in the layout of BTS's downloads, named by BTS's lists:

root/sync/<scene>/{rgb_00045.jpg,sync_depth_00045.png}                                  training frames
root/official_splits/{test,train}/<scene>/{rgb_00045.jpg,sync_depth_00045.png}          the labelled 1,449
root/[split/]nyudepthv2_{train,val,test}_files_with_gt.txt      /scene/rgb_00045.jpg /scene/sync_depth_00045.png 518.8579

root may also be the folder that holds nyu_depth_v2/. Depth maps are 16-bit PNGs of millimetres. There is no official
validation list: `data.holdout: drives` makes one of whole scenes. Frames are read whole: BTS's trainer cuts off the
white border that aligning depth and colour left, this reader does not. The focal length is not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import SPLITS, SplitName, folder_names
from ablate.depth.data.images import load_raw_depth
from ablate.depth.data.listed import Listed
from ablate.errors import DataError

__all__ = ["NYU", "Nyu"]

_EXAMPLE = "/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579"
_LINE = re.compile(
    r"/?([A-Za-z0-9_-]+)/rgb_([0-9]{1,10})\.(?:jpg|png)\s+"
    r"(?:None|(/?\1/sync_depth_\2\.png))(?:\s+[0-9]{1,6}(?:\.[0-9]{1,9})?)?",
    re.ASCII,
)
_SUFFIXES = (".jpg", ".png")
_FOLDERS = {
    "train": ("sync", "official_splits/train", "official_splits/test"),
    "val": ("sync", "official_splits/train", "official_splits/test"),
    "test": ("official_splits/test", "sync", "official_splits/train"),
}
"""Where the frames of a list are looked for, in this order."""


class _Entry(NamedTuple):
    scene: str
    frame: str
    """The number as it is written in file names: 00045."""
    has_depth: bool = True

    @property
    def name(self) -> str:
        return f"{self.scene} {int(self.frame)}"


class Nyu(Listed[_Entry]):
    """NYU Depth v2: indoor frames of 480x640."""

    name: ClassVar[str] = "nyu"
    protocol: ClassVar[str] = "nyu"
    dense: ClassVar[bool | None] = True
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = {
        name: (f"nyudepthv2_{name}_files_with_gt.txt", f"{name}_files.txt") for name in SPLITS
    }
    example: ClassVar[str] = _EXAMPLE
    sample: ClassVar[str] = "ablate data sample {root} --layout nyu"

    def entry(self, path: Path, number: int, text: str) -> _Entry:
        match = _LINE.fullmatch(text)
        if not match:
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DataError(f"{path}:{number}: {shown!r} is not `image depth|None focal`, such as `{_EXAMPLE}`")
        return _Entry(match[1], match[2], match[3] is not None)

    def finder(self, root: Path, which: SplitName) -> _Finder:
        return _Finder(root, which)

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        units = load_raw_depth(path, "millimetres", "8-bit depth lost its millimetres: use the files unconverted")
        return units.astype(np.float32) / np.float32(1000)

    def drive_of(self, name: str) -> str | None:
        """The scene without the letter of its part: kitchen_0028a and kitchen_0028b are one kitchen."""
        return re.sub(r"(?<=[0-9])[a-z]$", "", name.partition(" ")[0])

    def place_of(self, name: str) -> tuple[str, int] | None:
        scene, _, frame = name.partition(" ")
        return scene, int(frame)


NYU = Nyu()


class _Finder:
    """Finds the files of frames by listing each scene's folders once."""

    def __init__(self, root: Path, which: SplitName) -> None:
        bases = [root, root / "nyu_depth_v2"]
        self._folders = [base / folder for folder in _FOLDERS[which] for base in bases]
        self._names = cache(folder_names)

    def image(self, entry: _Entry) -> tuple[Path, bool]:
        """The image file of a frame, and whether it exists."""
        names = [f"rgb_{entry.frame}{suffix}" for suffix in _SUFFIXES]
        found = self._find(entry.scene, names)
        return (found, True) if found else (self._folders[0] / entry.scene / names[0], False)

    def depth(self, entry: _Entry) -> Path | None:
        return self._find(entry.scene, [f"sync_depth_{entry.frame}.png"])

    def _find(self, scene: str, names: list[str]) -> Path | None:
        for folder in self._folders:
            held = self._names(folder / scene)
            for name in names:
                if name in held:
                    return folder / scene / name
        return None
