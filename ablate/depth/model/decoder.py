"""The decoder of DPT: RefineNet-style fusion (Ranftl et al. 2021, section 3) and the monodepth head.

Names of parameters are those of the published checkpoints. Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ablate.depth.model.specs import DecoderNorm

Size = tuple[int, int]
"""(height, width)."""


class Decoder(nn.Module):
    """Four maps, each about half as large as the one before -> one channel, not negative, at the input's size.

    Args of the constructor:
        channels: of the maps.
        features: channels inside.
        head_channels: after the head's first and second convolution.
        norm: `batch` for batch normalisation in the residual units.
    """

    def __init__(
        self, channels: Sequence[int], features: int, head_channels: tuple[int, int], norm: DecoderNorm = "none"
    ) -> None:
        super().__init__()
        self.recompute = False
        self._recomputable = norm == "none"  # computed twice, a batch would count twice in the running statistics
        for number, width in enumerate(channels, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(width, features, 3, padding=1, bias=False))
        for number in range(1, 5):
            self.add_module(f"refinenet{number}", Fusion(features, norm))
        wide, narrow = head_channels
        self.output_conv = nn.Sequential(
            nn.Conv2d(features, wide, 3, padding=1),
            nn.Identity(),  # the place of the resize in the published layout
            nn.Conv2d(wide, narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, 1, 1),
            nn.ReLU(),
        )

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """[finest, …, coarsest] -> B1HW at `size`."""
        path_BCHW: Tensor | None = None
        for number in (4, 3, 2, 1):
            path_BCHW = self._run(partial(self._fused, number, maps=maps), path_BCHW)
        return self._run(partial(self._head, size=size), path_BCHW)

    def _fused(self, number: int, path_BCHW: Tensor | None, maps: Sequence[Tensor]) -> Tensor:
        x_BCHW = self.get_submodule(f"layer{number}_rn")(maps[number - 1])
        finer = _size(maps[number - 2]) if number > 1 else (2 * x_BCHW.shape[-2], 2 * x_BCHW.shape[-1])
        return cast(Tensor, self.get_submodule(f"refinenet{number}")(x_BCHW, path_BCHW, finer))

    def _head(self, path_BCHW: Tensor, size: Size) -> Tensor:
        return cast(Tensor, self.output_conv[1:](resize(self.output_conv[0](path_BCHW), size)))

    def _run(self, layer: Callable[..., Tensor], x: Tensor | None) -> Tensor:
        """`layer(x)`, keeping nothing inside for the backward pass if activations are to be computed again."""
        if self.recompute and self._recomputable and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)


class Fusion(nn.Module):
    """Adds an encoder map to the path from below, refines the sum and resizes it to the next finer map.

    The lowest block has no path from below; its `resConfUnit1` exists, unused, as in the published weights.
    """

    def __init__(self, features: int, norm: DecoderNorm = "none") -> None:
        super().__init__()
        self.resConfUnit1 = ResidualUnit(features, norm)
        self.resConfUnit2 = ResidualUnit(features, norm)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x_BCHW: Tensor, path_BCHW: Tensor | None, size: Size) -> Tensor:
        if path_BCHW is not None:
            x_BCHW = path_BCHW + self.resConfUnit1(x_BCHW)
        # the published code resizes before the 1x1 convolution: the two commute, and this order costs a quarter
        return resize(self.out_conv(self.resConfUnit2(x_BCHW)), size)


class ResidualUnit(nn.Module):
    """x plus two 3x3 convolutions of it; with `batch`, normalised and without bias as in isl-org/DPT."""

    def __init__(self, features: int, norm: DecoderNorm = "none") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1, bias=norm == "none")
        self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=norm == "none")
        self.bn1 = nn.BatchNorm2d(features) if norm == "batch" else nn.Identity()
        self.bn2 = nn.BatchNorm2d(features) if norm == "batch" else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(F.relu(x_BCHW))))
        return cast(Tensor, x_BCHW + self.bn2(self.conv2(y_BCHW)))


def resize(x_BCHW: Tensor, size: Size) -> Tensor:
    """To (height, width), bilinearly; corners aligned, as in isl-org/DPT."""
    return F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=True)


def _size(x_BCHW: Tensor) -> Size:
    return x_BCHW.shape[-2], x_BCHW.shape[-1]
