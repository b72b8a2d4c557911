"""Generated rooms in the layouts of ReDWeb, HRWSI and BlendedMVS: the same scenes, stored as each of them stores depth.

240x320, with the depth of `room`: ReDWeb's and HRWSI's in 8 bits of inverse depth stretched over each picture, HRWSI's
with masks where the sensor of the room saw nothing, BlendedMVS's in PFM and in a unit of its own per scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import Dataset
from ablate.depth.data.generated import Layout, Place, Say, make
from ablate.depth.data.relative import BLENDEDMVS, HRWSI, REDWEB
from ablate.depth.data.room import draw_room

Rng = np.random.Generator


def make_unitless(folder: Path, name: str, *, frames: Mapping[str, int], seed: int, say: Say) -> None:
    """Writes a set of `frames["train"]`, `["val"]` and `["test"]` frames in the layout of `name`.

    The official layouts have no test split, and ReDWeb none but train: lists say which frames are which. Raises
    UsageError as `generated.make`.
    """
    make(folder, LAYOUTS[name], frames=frames, seed=seed, say=say)


def _half_room(rng: Rng) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture (HW3) and its depth (HW, metres, 0 = none)."""
    image, millimetres = draw_room(rng)
    return image[::2, ::2], millimetres[::2, ::2].astype(np.float32) / np.float32(1000)


def _stretched(depth_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Inverse depth of a picture, its farthest pixel being 0 and its nearest 255; pixels without depth are 0."""
    valid = depth_HW > 0
    inverse = np.divide(1, depth_HW, out=np.zeros_like(depth_HW), where=valid)
    low, high = (float(inverse[valid].min()), float(inverse[valid].max())) if valid.any() else (0.0, 1.0)
    stretched = np.rint((inverse - low) * (255 / max(high - low, 1e-6)))
    return np.where(valid, stretched, 0).clip(0, 255).astype(np.uint8)


def _draw_redweb(rng: Rng) -> tuple[NDArray[Any], ...]:
    image, depth = _half_room(rng)
    return image, _stretched(depth)


def _draw_hrwsi(rng: Rng) -> tuple[NDArray[Any], ...]:
    image, depth = _half_room(rng)
    return image, _stretched(depth), ((depth > 0) * 255).astype(np.uint8)


def _draw_blendedmvs(rng: Rng) -> tuple[NDArray[Any], ...]:
    image, depth = _half_room(rng)
    return image, depth * np.float32(rng.uniform(0.05, 20))


def _redweb_place(split: str, drive: int, frame: int) -> Place:
    name = f"{drive:04d}_{frame:03d}"
    return Place(split, drive, frame, name, Path("Imgs", f"{name}.jpg"), Path("RDs", f"{name}.png"))


def _hrwsi_place(split: str, drive: int, frame: int) -> Place:
    part, name = "train" if split == "train" else "val", f"{drive:04d}_{frame:03d}"
    image, depth, mask = (Path(part, kind) for kind in ("imgs", "gts", "valid_masks"))
    line = f"{part}/{name}"
    return Place(split, drive, frame, line, image / f"{name}.jpg", depth / f"{name}.png", mask / f"{name}.png")


def _blendedmvs_place(split: str, drive: int, frame: int) -> Place:
    scan, name = f"{drive:024x}", f"{frame:08d}"
    image, depth = Path(scan, "blended_images", f"{name}.jpg"), Path(scan, "rendered_depth_maps", f"{name}.pfm")
    return Place(split, drive, frame, f"{scan}/{name}", image, depth)


def _lists(dataset: Dataset) -> dict[str, str]:
    return {which: names[0] for which, names in dataset.lists.items()}


LAYOUTS: Mapping[str, Layout] = {
    "redweb": Layout("ReDWeb set", _lists(REDWEB), _redweb_place, 1, _draw_redweb),
    "hrwsi": Layout("HRWSI set", _lists(HRWSI), _hrwsi_place, 2001, _draw_hrwsi),
    "blendedmvs": Layout("BlendedMVS set", _lists(BLENDEDMVS), _blendedmvs_place, 4001, _draw_blendedmvs),
}
"""Their drives differ, so that no two sets hold the same pictures."""
