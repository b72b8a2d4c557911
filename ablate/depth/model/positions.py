"""Positions of tokens on a grid other than the learned one. Shapes: N tokens, D width, H x W grid."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


def resized(positions_1ND: Tensor, old: Grid, new: Grid, mode: str) -> Tensor:
    """Learned positions (1ND; those before the last rows * columns stay) for another grid.

    Interpolated with corners not aligned, in single precision at least: bilinearly as isl-org/DPT does, or
    bicubically as transformers does for DINOv2. The positions themselves on their own grid.
    """
    if new == old:
        return positions_1ND
    prefix = positions_1ND.shape[1] - old[0] * old[1]
    prefix_1ND, patches_1ND = positions_1ND[:, :prefix], positions_1ND[:, prefix:]
    grid_1DHW = patches_1ND.transpose(1, 2).reshape(1, -1, *old)
    exact_1DHW = grid_1DHW.to(torch.promote_types(grid_1DHW.dtype, torch.float32))
    with _no_autocast(positions_1ND):
        if mode == "bicubic":
            resized_1DHW = _bicubic(exact_1DHW, new)
        else:
            resized_1DHW = F.interpolate(exact_1DHW, size=new, mode=mode, align_corners=False)
    resized_1ND = resized_1DHW.to(grid_1DHW.dtype).flatten(2).transpose(1, 2)
    return torch.cat([prefix_1ND, resized_1ND], dim=1)


def _bicubic(x_1DHW: Tensor, new: Grid) -> Tensor:
    """As `F.interpolate` does, by two matrix products: torch's own has no reproducible gradient on a GPU."""
    rows_hH, columns_wW = (_weights(side, to, x_1DHW) for side, to in zip(x_1DHW.shape[-2:], new, strict=True))
    return rows_hH @ x_1DHW @ columns_wW.T


def _weights(old: int, new: int, like: Tensor) -> Tensor:
    """new x old: what each old cell of a line gives to each new one."""
    single = torch.eye(old, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(single, size=(new, old), mode="bicubic", align_corners=False)[0, 0]


def _no_autocast(x: Tensor) -> AbstractContextManager[object]:
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()
