"""ReDWeb, HRWSI and BlendedMVS in the layouts that their authors publish: depth without a unit, to train on alone.

ReDWeb (Xian et al. 2018)      root/Imgs/<name>.jpg  root/RDs/<name>.png             8 bits, the nearer the brighter
HRWSI (Xian et al. 2020)       root/{train,val}/imgs/<name>.jpg  …/gts/<name>.png    8 bits, the nearer the brighter
                               …/valid_masks/<name>.png                              0 where ground truth is not valid
BlendedMVS (Yao et al. 2020)   root/<scan>/blended_images/<frame:08d>.jpg            (…_masked.jpg are not read)
                               root/<scan>/rendered_depth_maps/<frame:08d>.pfm       depth in the scan's own unit
                               root/{training,validation}_list.txt                   scans, one per line; all if absent

What `load_depth` gives is inverse depth up to a scale and a shift, > 0 where there is any. That is why 1 is added to
8-bit values: the farthest pixels, sky among them, are 0 in these files and are ground truth nevertheless. Without
lists every image of the folders is trained on. A folder `data.split` (or the root) may hold
{redweb,hrwsi,blendedmvs}_{train,val,test}_files.txt with names of frames instead: `<name>`, for HRWSI `train/<name>`, for BlendedMVS `<scan>/<frame:08d>`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import SPLITS, Dataset, Frame, Kind, Split, SplitName, folder_names, list_lines, no_repeats
from ablate.depth.data.images import load_grey
from ablate.depth.data.pfm import read_pfm
from ablate.depth.protocol import DepthProtocol
from ablate.errors import DataError

__all__ = ["BLENDEDMVS", "HRWSI", "REDWEB", "BlendedMvs", "Hrwsi", "ReDWeb"]

UNITLESS = DepthProtocol(name="unitless", min_depth=0.0, max_depth=math.inf, scale=1.0, shift=0.0, units_per_metre=1)
"""No crop, no cap; nothing is evaluated by it."""

_NAME = re.compile(r"[\w.+@=,-]+(?:/[\w.+@=,-]+)*", re.ASCII)


class _Relative(Dataset):
    """A folder of images and one of depth maps, with the same names."""

    protocol: ClassVar[DepthProtocol] = UNITLESS
    kind: ClassVar[Kind] = "relative"
    dense: ClassVar[bool | None] = True

    def frame(self, root: Path, name: str) -> Frame:
        """Where the files of the frame called so are."""
        raise NotImplementedError

    def named(self, root: Path, which: SplitName) -> tuple[str, ...]:
        """The names of all frames of the folders that are a split, sorted."""
        raise NotImplementedError

    def folder(self, root: Path, which: SplitName) -> Path | None:
        """What stands for the list of a split where there is none: a file or folder of the official layout."""
        raise NotImplementedError

    def list_files(self, root: Path, split: Path | None) -> dict[str, Path]:
        """See `Dataset.list_files`; in the official layouts folders stand for lists."""
        base = root / split if split is not None else root
        lists = {which: base / names[0] for which, names in self.lists.items() if (base / names[0]).is_file()}
        if lists or split is not None:
            return super().list_files(root, split)
        splits: tuple[SplitName, ...] = ("train", "val")
        folders = {which: self.folder(root, which) for which in splits}
        found = {which: path for which, path in folders.items() if path is not None and path.exists()}
        if "train" not in found:
            make = self.sample.format(root=root)
            raise DataError(
                f"{folders['train']}: no such folder; set data.root to {self.name}, or make one with `{make}`"
            )
        return {str(which): path for which, path in found.items()}

    def read_split(self, root: Path, split: Path | None, which: SplitName) -> Split:
        """See `Dataset.read_split`."""
        listed = self.list_files(root, split).get(which)
        if listed is None:
            return Split(())
        names = cache(folder_names)
        frames, without_depth, without_image = [], [], []
        for name in self._names(root, listed, which):
            frame = self.frame(root, name)
            if frame.image.name not in names(frame.image.parent):
                without_image.append(frame.image)
            depths = [path for path in frame.files[1:] if path.name not in names(path.parent)]
            if depths:
                without_depth.append(name)
            else:
                frames.append(frame)
        return Split(tuple(frames), tuple(without_depth), tuple(without_image))

    def names_of(self, path: Path) -> tuple[str, ...]:
        root, which = self._place_of_list(path)
        return self._names(root, path, which)

    def _names(self, root: Path, listed: Path, which: SplitName) -> tuple[str, ...]:
        if listed.name != self.lists[which][0]:
            return self.named(root, which)
        found = list(list_lines(listed))
        for number, name in found:
            if not _NAME.fullmatch(name) or ".." in name:
                raise DataError(
                    f"{listed}:{number}: {name[:80]!r} is not the name of a frame, such as `{self.example}`"
                )
        no_repeats(listed, found, self.example)
        return tuple(name for _, name in found)

    def _place_of_list(self, path: Path) -> tuple[Path, SplitName]:
        """(root, split) of what `list_files` gave; the root of a list of names is of no account."""
        for which, names in self.lists.items():
            if path.name == names[0]:
                return path.parent, "train" if which == "train" else "val" if which == "val" else "test"
        return self.root_of(path)

    def root_of(self, path: Path) -> tuple[Path, SplitName]:
        """(root, split) of what `folder` gave."""
        raise NotImplementedError


def _stems(folder: Path) -> list[str]:
    return sorted(name.removesuffix(".jpg") for name in folder_names(folder) if name.endswith(".jpg"))


def _unitless(path: Path) -> NDArray[np.float32]:
    """8-bit relative inverse depth, plus 1: > 0 everywhere."""
    return load_grey(path).astype(np.float32) + np.float32(1)


def _lists(name: str) -> dict[str, tuple[str, ...]]:
    """Names of their own, by which `ablate data check` knows which set it is."""
    return {which: (f"{name}_{which}_files.txt",) for which in SPLITS}


class ReDWeb(_Relative):
    """ReDWeb V1: 3,600 pictures from the web, relative depth by optical flow."""

    name: ClassVar[str] = "redweb"
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = _lists("redweb")
    example: ClassVar[str] = "17582046_cd2a6cd7b8_o"
    sample: ClassVar[str] = "ablate data sample {root} --layout redweb"

    def frame(self, root: Path, name: str) -> Frame:
        return Frame(name, root / "Imgs" / f"{name}.jpg", root / "RDs" / f"{name}.png", kind="relative")

    def named(self, root: Path, which: SplitName) -> tuple[str, ...]:
        return tuple(_stems(root / "Imgs"))

    def folder(self, root: Path, which: SplitName) -> Path | None:
        return root / "Imgs" if which == "train" else None

    def root_of(self, path: Path) -> tuple[Path, SplitName]:
        return path.parent, "train"

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        return _unitless(path)


class Hrwsi(_Relative):
    """HR-WSI: 20,378 training and 400 validation pictures, relative depth by stereo, sky set to the farthest."""

    name: ClassVar[str] = "hrwsi"
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = _lists("hrwsi")
    example: ClassVar[str] = "train/5011_r"
    sample: ClassVar[str] = "ablate data sample {root} --layout hrwsi"

    def frame(self, root: Path, name: str) -> Frame:
        part, _, stem = name.rpartition("/")
        folder = root / (part or "train")
        depth, mask = (folder / kind / f"{stem}.png" for kind in ("gts", "valid_masks"))
        return Frame(name, folder / "imgs" / f"{stem}.jpg", depth, mask, kind="relative")

    def named(self, root: Path, which: SplitName) -> tuple[str, ...]:
        return tuple(f"{which}/{stem}" for stem in _stems(root / which / "imgs"))

    def folder(self, root: Path, which: SplitName) -> Path | None:
        return root / which / "imgs"

    def root_of(self, path: Path) -> tuple[Path, SplitName]:
        return path.parent.parent, "val" if path.parent.name == "val" else "train"

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        return _unitless(path)


class BlendedMvs(_Relative):
    """BlendedMVS: 113 scans of meshes that were rendered; depth in a unit that differs from scan to scan."""

    name: ClassVar[str] = "blendedmvs"
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = _lists("blendedmvs")
    example: ClassVar[str] = "5a3ca9cb270f0e3f14d0eddb/00000012"
    sample: ClassVar[str] = "ablate data sample {root} --layout blendedmvs"
    scans: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": ("training_list.txt", "BlendedMVS_training.txt"),
        "val": ("validation_list.txt",),
    }

    def frame(self, root: Path, name: str) -> Frame:
        scan, _, frame = name.rpartition("/")
        depth = root / scan / "rendered_depth_maps" / f"{frame}.pfm"
        return Frame(name, root / scan / "blended_images" / f"{frame}.jpg", depth, kind="relative")

    def named(self, root: Path, which: SplitName) -> tuple[str, ...]:
        listed = self.folder(root, which)
        if listed is None:
            return ()
        scans = [text for _, text in list_lines(listed)] if listed.is_file() else sorted(folder_names(root))
        return tuple(f"{scan}/{frame}" for scan in scans for frame in self._frames(root / scan))

    def folder(self, root: Path, which: SplitName) -> Path | None:
        lists = [root / name for name in self.scans.get(which, ()) if (root / name).is_file()]
        return lists[0] if lists else root if which == "train" and root.is_dir() else None

    def root_of(self, path: Path) -> tuple[Path, SplitName]:
        if path.name in self.scans["val"]:
            return path.parent, "val"
        return (path.parent if path.name in self.scans["train"] else path), "train"

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        """1 / depth, 0 where the mesh has a hole."""
        depth_HW = read_pfm(path)
        if not np.isfinite(depth_HW).all() or (depth_HW < 0).any():
            raise DataError(f"{path}: holds depth that is negative or not finite; 0 means that there is none")
        inverse_HW: NDArray[np.float32] = np.divide(1, depth_HW, out=np.zeros_like(depth_HW), where=depth_HW > 0)
        return inverse_HW

    def drive_of(self, name: str) -> str | None:
        return name.rpartition("/")[0]

    def _frames(self, scan: Path) -> Iterator[str]:
        for stem in _stems(scan / "blended_images"):
            if not stem.endswith("_masked"):
                yield stem


REDWEB, HRWSI, BLENDEDMVS = ReDWeb(), Hrwsi(), BlendedMvs()
