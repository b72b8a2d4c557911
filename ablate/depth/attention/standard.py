"""Softmax attention (Vaswani et al. 2017, eq. 1), fused."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ablate.depth.attention.base import Attention, Grid, attention


@attention
class StandardAttention(Attention):
    """timm's own attention: every token looks at every token, O(N^2)."""

    permutation_equivariant = True

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        return F.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE)
