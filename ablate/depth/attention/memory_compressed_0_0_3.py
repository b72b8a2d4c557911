"""What the progress log's rows 6 and 7 ran: memory-compressed-attention 0.0.3, with what was wrong with it.

Not an attention to use, but one to ask questions of (`studies/explosion.yaml`). Its output is that of the package:

- the softmax is computed and thrown away: values are summed with the bare logits, which have no bound;
- the null key and value are not expanded to the batch: it takes one image at a time;
- logits are scaled by D^-1/2, the width of the model, not of a head;
- zeros are put before the first token until r divides N, and count; prefix tokens share windows with patches;
- its parameters have names of their own, so that a checkpoint's `qkv` and `proj` do not reach them.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.depth.attention.base import Attention, Grid, attention

OPTIONS = {"compression": 2}
AS_LOGGED = True


@attention
class MemoryCompressedAttention003(Attention):
    """Values weighted by q k^T / sqrt(D), over 1 + ceil(N / r) keys. Starts as the package does, at random."""

    rows_sum_to_one = False
    adopts = False

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, compression: int) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        self.scale = dim**-0.5
        self.compression = compression
        self.compress = nn.Conv1d(dim, dim, compression, stride=compression, groups=num_heads)
        self.null_k = nn.Parameter(torch.zeros(1, 1, dim))
        self.null_v = nn.Parameter(torch.zeros(1, 1, dim))

    def _project(self, dim: int, head_dim: int, qkv_bias: bool) -> None:
        self.head_dim = head_dim
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)  # without a bias, whatever the network's other blocks have
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, grid: Grid, prefix: int, rope: Tensor | None = None) -> Tensor:
        if x_BND.shape[0] != 1:
            raise ValueError(
                f"memory_compressed_0_0_3 takes one image at a time, not {x_BND.shape[0]}: version 0.0.3 of the "
                "package did not expand its null key to the batch; set train.batch_size to 1, or use memory_compressed"
            )
        return cast(Tensor, self.to_out(self._mixed(self.to_qkv(x_BND), grid, prefix, rope)))

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        k_BHSE = self._shorter(k_BHNE, self.null_k)
        v_BHSE = self._shorter(v_BHNE, self.null_v)
        logits_BHNS: Tensor = q_BHNE @ k_BHSE.transpose(-1, -2) * self.scale
        return logits_BHNS @ v_BHSE

    def _shorter(self, x_BHNE: Tensor, null_11D: Tensor) -> Tensor:
        """BHNE -> BHSE: the null key or value, then one for each r tokens."""
        x_BDN = x_BHNE.transpose(-1, -2).flatten(1, 2)
        x_BDS = self.compress(F.pad(x_BDN, (-x_BDN.shape[-1] % self.compression, 0)))
        x_BDS = torch.cat([null_11D.transpose(1, 2).to(x_BDS.dtype), x_BDS], dim=-1)
        B, _, S = x_BDS.shape
        return x_BDS.reshape(B, self.num_heads, self.head_dim, S).transpose(-1, -2)
