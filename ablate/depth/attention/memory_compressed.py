"""Memory-compressed attention (Liu et al. 2018, arXiv 1801.10198, section 4.2.3): O(N^2 / r).

Each r keys, and each r values, become one by a strided convolution of one group per head, shared by keys and
values as in memory_compressed_attention, the code behind the progress log. Four deliberate differences:

- the convolution starts as the mean over its window, so that a pretrained network starts close to itself;
- a window that the tokens do not fill counts those it has (the log's code averaged zeros in);
- prefix tokens never share a window with patches, whatever N (the log's did where N - 1 was not a multiple of r);
- logits are scaled by E^-1/2, as those of the attention that it replaces, and there is no null key.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.depth.attention.base import Attention, Grid, attention

OPTIONS = {"compression": 2}


@attention
class MemoryCompressedAttention(Attention):
    """Softmax attention over ceil(prefix / r) + ceil(patches / r) keys; r = 1 starts as standard attention."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, compression: int) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        if compression < 1:
            raise ValueError(f"compression must be at least 1, not {compression}")
        self.compression = compression
        self.compress = nn.Conv1d(dim, dim, compression, stride=compression, groups=num_heads)
        with torch.no_grad():
            nn.init.zeros_(self.compress.weight)
            nn.init.zeros_(_bias(self.compress))
            channel = torch.arange(dim, device=self.compress.weight.device)
            self.compress.weight[channel, channel % self.head_dim] = 1 / compression

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        k_BHSE, v_BHSE = self._shorter(k_BHNE, prefix), self._shorter(v_BHNE, prefix)
        return F.scaled_dot_product_attention(q_BHNE, k_BHSE, v_BHSE)

    def _shorter(self, x_BHNE: Tensor, prefix: int) -> Tensor:
        """BHNE -> BHSE, S windows of at most r tokens."""
        x_BDN = x_BHNE.transpose(-1, -2).flatten(1, 2)
        pieces = [piece for piece in (x_BDN[..., :prefix], x_BDN[..., prefix:]) if piece.shape[-1]]
        x_BDS = torch.cat([self._windows(piece) for piece in pieces], dim=-1)
        B, _, S = x_BDS.shape
        return x_BDS.reshape(B, self.num_heads, self.head_dim, S).transpose(-1, -2)

    def _windows(self, x_BDN: Tensor) -> Tensor:
        """BDN -> BDS. Padding goes to the left and counts for nothing: the first window is scaled to what it has."""
        r = self.compression
        short = -x_BDN.shape[-1] % r
        padded_BDN = F.pad(x_BDN, (short, 0))
        sums_BDS = F.conv1d(padded_BDN, self.compress.weight, stride=r, groups=self.num_heads)
        if short:
            first_BD1, rest_BDS = sums_BDS[..., :1], sums_BDS[..., 1:]
            sums_BDS = torch.cat([first_BD1 * (r / (r - short)), rest_BDS], dim=-1)
        return sums_BDS + _bias(self.compress)[:, None]


def _bias(convolution: nn.Conv1d) -> Tensor:
    assert convolution.bias is not None  # Conv1d's default
    return convolution.bias
