"""Memory-compressed attention on the patch grid: O(N^2 / r).

`memory_compressed` reads the patches as one long row, so that a window ends in one row of the image and goes on at
the far side of the next wherever r does not divide the columns (40 columns at 192x640, r = 3). Here each row of
patches has windows of its own, r patches wide and one high: the same parameters and, but for the last window of a
row, the same cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ablate.depth.attention.base import Grid, attention
from ablate.depth.attention.memory_compressed import MemoryCompressedAttention

OPTIONS = {"compression": 2, "null_key": False, "zero_padding": False}


@attention
class MemoryCompressed2dAttention(MemoryCompressedAttention):
    """Softmax attention over ceil(prefix / r) + rows * ceil(columns / r) keys; r = 1 starts as standard attention.

    With `zero_padding`, zeros are averaged in at the left end of each row, and before the prefix tokens.
    """

    def _compressed(self, x_BDN: Tensor, grid: Grid, prefix: int) -> Tensor:
        B, D, _ = x_BDN.shape
        rows_BRDC = x_BDN[..., prefix:].reshape(B, D, *grid).transpose(1, 2)
        windows_XDS = self._windows(rows_BRDC.flatten(0, 1))  # X = B * rows: no window spans two rows
        windows_BDS = windows_XDS.reshape(B, grid[0], D, -1).transpose(1, 2).flatten(2)
        if not prefix:
            return windows_BDS
        return torch.cat([self._windows(x_BDN[..., :prefix]), windows_BDS], dim=-1)
