"""From tapped tokens to maps (Ranftl et al. 2021, section 3, "Reassemble").

Shapes: B batch, N tokens (class token, registers, then patches row by row), D width, C channels, H x W map.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ablate.depth.model.specs import NetworkSpec


class Ignore(nn.Module):
    """BND -> B(N - prefix)D: the patches alone."""

    def __init__(self, dim: int, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, x_BND: Tensor) -> Tensor:
        return x_BND[:, self.prefix :]


class Add(Ignore):
    """The class token added to every patch."""

    def forward(self, x_BND: Tensor) -> Tensor:
        return x_BND[:, self.prefix :] + x_BND[:, :1]


class Project(Ignore):
    """The class token joined to every patch."""

    def __init__(self, dim: int, prefix: int) -> None:
        super().__init__(dim, prefix)
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, x_BND: Tensor) -> Tensor:
        patches_BND = x_BND[:, self.prefix :]
        class_BND = x_BND[:, :1].expand_as(patches_BND)
        return cast(Tensor, self.project(torch.cat([patches_BND, class_BND], dim=-1)))


READOUTS: dict[str, type[Ignore]] = {"ignore": Ignore, "add": Add, "project": Project}


class Reassemble(nn.ModuleDict):
    """Tokens -> the map `number`: 4, 2, 1 or 1/2 cells per token each way, for 1 to 4.

    The published layout numbers its layers 0 (readout), 3 (1x1 convolution) and 4 (resize).
    """

    def __init__(self, spec: NetworkSpec, number: int, channels: int) -> None:
        layers: dict[str, nn.Module] = {
            "0": READOUTS[spec.readout](spec.embed_dim, spec.prefix),
            "3": nn.Conv2d(spec.embed_dim, channels, 1),
        }
        if number in (1, 2):
            factor = 4 // number
            layers["4"] = nn.ConvTranspose2d(channels, channels, factor, stride=factor)
        elif number == 4:
            layers["4"] = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        super().__init__(layers)

    def forward(self, x_BND: Tensor, grid: tuple[int, int]) -> Tensor:
        """BND -> BCHW; half a cell more counts as one. `grid` is (rows, columns) of the patches."""
        x_BDHW = self["0"](x_BND).transpose(1, 2).unflatten(2, grid)
        x_BCHW = self["3"](x_BDHW)
        return cast(Tensor, self["4"](x_BCHW) if "4" in self else x_BCHW)
