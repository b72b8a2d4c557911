"""An attention of one's own. `OPTIONS`, if there were any, would name the settings of `model` that it takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.depth.attention.base import Attention, Grid


class CosineAttention(Attention):
    """Scaled cosine attention (Liu et al. 2022, Swin v2, arXiv 2111.09883): logits cannot grow with the features."""

    permutation_equivariant = True

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        self.log_scale = nn.Parameter(torch.full((num_heads, 1, 1), 10.0).log())

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        cosine_BHNN = F.normalize(q_BHNE, dim=-1) @ F.normalize(k_BHNE, dim=-1).transpose(-1, -2)
        scale = self.log_scale.clamp(max=4.6).exp().to(cosine_BHNN.dtype)  # at most 100, as published
        weights_BHNN = (cosine_BHNN * scale).softmax(dim=-1)
        return weights_BHNN @ v_BHNE
