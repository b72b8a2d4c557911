"""Memory-compressed attention (Liu et al. 2018, arXiv 1801.10198, section 4.2.3): O(N^2 / r).

Each r keys, and each r values, become one by a strided convolution of one group per head, shared by keys and
values as in memory-compressed-attention, the package behind the progress log. Deliberate differences:

- the convolution starts as the mean over its window, so that a pretrained network starts close to itself;
- a window that the tokens do not fill counts those it has, and prefix tokens never share one with patches;
- logits are scaled by E^-1/2, as those of the attention that it replaces (the package: D^-1/2);
- there is no null key.

`zero_padding` and `null_key` take the second and the last back. With both, and queries times sqrt(E / D), this is
version 0.0.7 of the package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.depth.attention.base import Attention, Grid, attention

OPTIONS = {"compression": 2, "null_key": False, "zero_padding": False}


@attention
class MemoryCompressedAttention(Attention):
    """Softmax attention over ceil(prefix / r) + ceil(patches / r) keys; r = 1 starts as standard attention.

    Args:
        compression: r.
        null_key: a learned key and value, zero at first, beside the others.
        zero_padding: zeros are put before the first token until r divides N, and averaged in. Prefix tokens and
            patches are then one sequence, so that a window may hold both.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool,
        compression: int,
        null_key: bool = False,
        zero_padding: bool = False,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        if compression < 1:
            raise ValueError(f"compression must be at least 1, not {compression}")
        self.compression = compression
        self.zero_padding = zero_padding
        self.rows_sum_to_one = not (null_key or zero_padding)
        self.compress = nn.Conv1d(dim, dim, compression, stride=compression, groups=num_heads)
        with torch.no_grad():
            nn.init.zeros_(self.compress.weight)
            nn.init.zeros_(_bias(self.compress))
            channel = torch.arange(dim, device=self.compress.weight.device)
            self.compress.weight[channel, channel % self.head_dim] = 1 / compression
        self.null_k = nn.Parameter(torch.zeros(1, 1, dim)) if null_key else None
        self.null_v = nn.Parameter(torch.zeros(1, 1, dim)) if null_key else None

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        k_BHSE = self._with_null(self.shorter(k_BHNE, grid, prefix), self.null_k)
        v_BHSE = self._with_null(self.shorter(v_BHNE, grid, prefix), self.null_v)
        return F.scaled_dot_product_attention(q_BHNE, k_BHSE, v_BHSE)

    def shorter(self, x_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        """BHNE -> BHSE, S windows of at most r tokens, those of the prefix first."""
        x_BDS = self._compressed(x_BHNE.transpose(-1, -2).flatten(1, 2), grid, prefix)
        B, _, S = x_BDS.shape
        return x_BDS.reshape(B, self.num_heads, self.head_dim, S).transpose(-1, -2)

    def _compressed(self, x_BDN: Tensor, grid: Grid, prefix: int) -> Tensor:
        """BDN -> BDS. Windows run on from one row of patches to the next."""
        pieces = (x_BDN,) if self.zero_padding else (x_BDN[..., :prefix], x_BDN[..., prefix:])
        return torch.cat([self._windows(piece) for piece in pieces if piece.shape[-1]], dim=-1)

    def _windows(self, x_BDN: Tensor) -> Tensor:
        """BDN -> BDS. Padding goes to the left; unless asked for it counts for nothing: the first window is scaled."""
        r = self.compression
        short = -x_BDN.shape[-1] % r
        padded_BDN = F.pad(x_BDN, (short, 0))
        sums_BDS = F.conv1d(padded_BDN, self.compress.weight, stride=r, groups=self.num_heads)
        if short and not self.zero_padding:
            first_BD1, rest_BDS = sums_BDS[..., :1], sums_BDS[..., 1:]
            sums_BDS = torch.cat([first_BD1 * (r / (r - short)), rest_BDS], dim=-1)
        return sums_BDS + _bias(self.compress)[:, None]

    def _with_null(self, x_BHSE: Tensor, null_11D: Tensor | None) -> Tensor:
        if null_11D is None:
            return x_BHSE
        null_1H1E = null_11D.reshape(1, self.num_heads, 1, self.head_dim).to(x_BHSE.dtype)
        return torch.cat([null_1H1E.expand(x_BHSE.shape[0], -1, -1, -1), x_BHSE], dim=2)


def _bias(convolution: nn.Conv1d) -> Tensor:
    assert convolution.bias is not None  # Conv1d's default
    return convolution.bias
