"""The decoder of DPT: RefineNet-style fusion (Ranftl et al. 2021, section 3) and the monodepth head.

Names of parameters are those of the published checkpoints. Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class Decoder(nn.Module):
    """Four maps of 1/4 … 1/32 -> one channel, not negative, at the input's size."""

    def __init__(self, channels: tuple[int, int, int, int], features: int, head_channels: tuple[int, int]) -> None:
        super().__init__()
        for number, width in enumerate(channels, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(width, features, 3, padding=1, bias=False))
        for number in range(1, 5):
            self.add_module(f"refinenet{number}", Fusion(features))
        wide, narrow = head_channels
        self.output_conv = nn.Sequential(
            nn.Conv2d(features, wide, 3, padding=1),
            Double(),
            nn.Conv2d(wide, narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, 1, 1),
            nn.ReLU(),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[1/4, 1/8, 1/16, 1/32] -> B1HW."""
        path_BCHW: Tensor | None = None
        for number in (4, 3, 2, 1):
            x_BCHW = self.get_submodule(f"layer{number}_rn")(maps[number - 1])
            path_BCHW = self.get_submodule(f"refinenet{number}")(x_BCHW, path_BCHW)
        return cast(Tensor, self.output_conv(path_BCHW))


class Fusion(nn.Module):
    """Adds an encoder map to the path from below, refines the sum and doubles its size.

    The lowest block has no path from below; its `resConfUnit1` exists, unused, as in the published weights.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x_BCHW: Tensor, path_BCHW: Tensor | None) -> Tensor:
        if path_BCHW is not None:
            x_BCHW = path_BCHW + self.resConfUnit1(x_BCHW)
        # the published code resizes before the 1x1 convolution: the two commute, and this order costs a quarter
        return double(self.out_conv(self.resConfUnit2(x_BCHW)))


class ResidualUnit(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return cast(Tensor, x_BCHW + self.conv2(F.relu(self.conv1(F.relu(x_BCHW)))))


class Double(nn.Module):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return double(x_BCHW)


def double(x_BCHW: Tensor) -> Tensor:
    """Twice the size, bilinearly; corners aligned, as in isl-org/DPT."""
    return F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=True)
