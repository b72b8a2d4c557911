"""A generated street in KITTI's layout: a data set that needs no download and is the same for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import SPLITS
from ablate.depth.data.generated import Layout, Place, Say, make
from ablate.depth.data.street_render import render
from ablate.depth.data.street_scene import random_scene

DEFAULT_FRAMES: Mapping[str, int] = {"train": 96, "val": 12, "test": 12}

_DATE = "2011_09_26"
_ANNOTATED = {"train": "train", "val": "val", "test": "val"}
"""Which half of data_depth_annotated holds the drives of a split, as in KITTI."""


def make_street(folder: Path, *, frames: Mapping[str, int], seed: int, say: Say) -> None:
    """Writes a street of `frames["train"]`, `["val"]` and `["test"]` frames, 1242x375, with sparse 16-bit depth.

    The splits stand on different drives. The same seed and numbers give the same bytes. Raises UsageError as
    `generated.make`.
    """
    make(folder, STREET, frames=frames, seed=seed, say=say)


def _place(split: str, drive: int, frame: int) -> Place:
    name, file = f"{_DATE}_drive_{drive:04d}_sync", f"{frame:010d}.png"
    return Place(
        split,
        drive,
        frame,
        line=f"{_DATE}/{name} {frame} l",
        image=Path("raw", _DATE, name, "image_02", "data", file),
        depth=Path("data_depth_annotated", _ANNOTATED[split], name, "proj_depth", "groundtruth", "image_02", file),
    )


def _draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    return render(random_scene(rng), rng)


STREET = Layout("street", {name: f"{name}_files.txt" for name in SPLITS}, _place, 9001, _draw)
