"""A data set, a network and a metric of one's own. Nothing here imports torch, so that commands start at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.datasets import Dataset, Frame, Split, SplitName
from ablate.depth.data.images import load_raw_depth
from ablate.depth.model.specs import NetworkSpec
from ablate.depth.protocol import DepthProtocol


class Garden(Dataset):
    """`root/NAME.jpg` beside `root/NAME.png` (16 bits, millimetres), one NAME a line in `root/train_files.txt` …"""

    name: ClassVar[str] = "garden"
    example: ClassVar[str] = "roses/0007"
    protocol: ClassVar[DepthProtocol] = DepthProtocol(
        name="garden", max_depth=20.0, scale=0.0003, shift=0.05, units_per_metre=1000
    )

    def read_split(self, root: Path, split: Path | None, which: SplitName) -> Split:
        file = self.list_files(root, split).get(which)
        names = self.names_of(file) if file else ()
        return Split(tuple(Frame(name, root / f"{name}.jpg", root / f"{name}.png") for name in names))

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        millimetres = load_raw_depth(path, "millimetres", "8 bits steps of 26 cm are left")
        return millimetres.astype(np.float32) / np.float32(1000)

    def drive_of(self, name: str) -> str:
        """The flower bed: beds that are in two lists are reported, and `data.holdout: drives` keeps them apart."""
        return name.partition("/")[0]


NETWORK = NetworkSpec(
    embed_dim=48,
    blocks=4,
    heads=4,
    mlp_ratio=2.0,
    taps=(0, 1, 2, 3),
    position_grid=(4, 6),
    map_channels=(16, 24, 32, 48),
    features=16,
    head_channels=(8, 8),
)
"""A plain ViT of four blocks: no ResNet stem, all blocks tapped."""


@dataclass(frozen=True)
class Within:
    """The share of pixels that are within some per cent of the truth: d1 says nothing once it is 0.99."""

    key: str
    header: str
    percent: float
    better: Literal["max"] = "max"

    def __call__(self, gt: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
        return float((np.abs(prediction - gt) <= self.percent / 100 * gt).mean())


WITHIN_5 = Within("within_5", "≤5 %", 5.0)
