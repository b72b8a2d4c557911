"""Window attention: each patch looks at the patches of its own square (as in Swin, Liu et al. 2021, arXiv
2103.14030, section 3.2, without its shift, its merging and its position bias) and at all prefix tokens: O(N w^2).

Prefix tokens look at every token. They alone carry anything from one window to another; without them, windows
never meet. Windows start at the top left; those at the right and at the bottom have what is left of the grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.depth.attention.base import Attention, Grid, attention

OPTIONS = {"window": 8}


@attention
class WindowAttention(Attention):
    """Softmax attention within squares of `window` x `window` patches; one that holds the grid is standard attention."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, window: int) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        self.window = window

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        squares = Squares(grid, self.window)
        q_XHSE = squares.split(q_BHNE[:, :, prefix:])
        k_XHTE, v_XHTE = (
            torch.cat([squares.everywhere(x[:, :, :prefix]), squares.split(x[:, :, prefix:])], dim=2)
            for x in (k_BHNE, v_BHNE)
        )
        mask_X11T = squares.mask(q_BHNE.shape[0], prefix, q_BHNE.device)
        out_BHNE = squares.join(F.scaled_dot_product_attention(q_XHSE, k_XHTE, v_XHTE, attn_mask=mask_X11T))
        if not prefix:
            return out_BHNE
        global_BHPE = F.scaled_dot_product_attention(q_BHNE[:, :, :prefix], k_BHNE, v_BHNE)
        return torch.cat([global_BHPE, out_BHNE], dim=2)


class Squares:
    """A grid of patches cut into W equal windows of S patches, the last ones filled up with padding.

    X = B * W: the windows of all images.
    """

    def __init__(self, grid: Grid, side: int) -> None:
        self.grid = grid
        self.height, self.width = min(side, grid[0]), min(side, grid[1])
        self.down, self.across = -(-grid[0] // self.height), -(-grid[1] // self.width)

    @property
    def _padding(self) -> tuple[int, int, int, int]:
        return (0, self.across * self.width - self.grid[1], 0, self.down * self.height - self.grid[0])

    def split(self, x_BHNE: Tensor) -> Tensor:
        """BHNE -> XHSE, padding being zeros."""
        B, H, _, E = x_BHNE.shape
        x_BHERC = F.pad(x_BHNE.transpose(-1, -2).reshape(B, H, E, *self.grid), self._padding)
        x = x_BHERC.reshape(B, H, E, self.down, self.height, self.across, self.width)
        return x.permute(0, 3, 5, 1, 4, 6, 2).reshape(B * self.down * self.across, H, self.height * self.width, E)

    def join(self, x_XHSE: Tensor) -> Tensor:
        """XHSE -> BHNE, without the padding."""
        _, H, _, E = x_XHSE.shape
        x = x_XHSE.reshape(-1, self.down, self.across, H, self.height, self.width, E).permute(0, 3, 1, 4, 2, 5, 6)
        x_BHRCE = x.reshape(-1, H, self.down * self.height, self.across * self.width, E)
        return x_BHRCE[:, :, : self.grid[0], : self.grid[1]].flatten(2, 3)

    def everywhere(self, x_BHPE: Tensor) -> Tensor:
        """BHPE -> XHPE: the same tokens for each window of an image."""
        return x_BHPE.unsqueeze(1).expand(-1, self.down * self.across, -1, -1, -1).flatten(0, 1)

    def mask(self, batch: int, prefix: int, device: torch.device) -> Tensor | None:
        """X11T, T = prefix + S: true where a key is a token; None if all are."""
        if not any(self._padding):
            return None
        real_11NE = torch.ones(1, 1, self.grid[0] * self.grid[1], 1, device=device)
        real_W11S = self.split(real_11NE).bool().transpose(-1, -2)
        mask_W11T = F.pad(real_W11S, (prefix, 0), value=True)
        return mask_W11T.repeat(batch, 1, 1, 1)
