"""Data sets in KITTI's layout: small ones of plain colour, and a generated street."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.depth.data.street import make_street

Kitti = Callable[..., Path]


def write_kitti(
    root: Path, splits: Mapping[str, Sequence[str]], size: tuple[int, int] = (352, 1216), annotated: str = "train"
) -> Path:
    """Every frame of every split, and the lists. Lines are `date/drive frame l|r`."""
    rng = np.random.default_rng(0)
    for split, lines in splits.items():
        (root).mkdir(parents=True, exist_ok=True)
        (root / f"{split}_files.txt").write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            drive, frame, side = line.split()
            camera, file = {"l": "image_02", "r": "image_03"}[side], f"{int(frame):010d}.png"
            image = root / "raw" / drive / camera / "data" / file
            depth = root / "data_depth_annotated" / annotated / Path(drive).name
            depth = depth / "proj_depth" / "groundtruth" / camera / file
            for path in (image, depth):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.tile(rng.integers(0, 256, (1, size[1], 3), np.uint8), (size[0], 1, 1))).save(image)
            Image.fromarray(np.tile(rng.integers(0, 20000, (1, size[1])).astype(np.uint16), (size[0], 1))).save(depth)
    return root


@pytest.fixture
def kitti(tmp_path: Path) -> Kitti:
    """Builds a data set under `tmp_path / "kitti"`."""

    def build(train: int = 3, val: int = 1, test: int = 0, size: tuple[int, int] = (352, 1216)) -> Path:
        splits = {
            name: [f"2011_09_26/2011_09_26_drive_000{drive}_sync {frame} l" for frame in range(count)]
            for drive, (name, count) in enumerate([("train", train), ("val", val), ("test", test)], 1)
            if count
        }
        return write_kitti(tmp_path / "kitti", splits, size)

    return build


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated street of 6 + 2 + 2 frames; tests must not change it."""
    folder = tmp_path_factory.mktemp("street") / "street"
    make_street(folder, frames={"train": 6, "val": 2, "test": 2}, seed=0, say=lambda text: None)
    return folder


@pytest.fixture
def kitti_sample(shared: Path) -> Path:
    """Real KITTI frames, which the repository must not hold."""
    return shared / "kitti-sample"
