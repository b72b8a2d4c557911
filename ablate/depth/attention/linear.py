"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236, eq. 5 and 7): phi(x) = elu(x) + 1, O(N).

Not an approximation of softmax attention but another weighting: a pretrained network does not start close to itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.depth.attention.base import Attention, Grid, attention

FEATURE_FLOOR = 1e-6
"""Added to every feature: elu(x) + 1 underflows to 0 for large negative x, and a query needs a key."""


@attention
class LinearAttention(Attention):
    """Each query a mean of values, weighted by phi(q) . phi(k)."""

    permutation_equivariant = True

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        # sums over all tokens: float32, whatever the network runs in
        with torch.autocast(q_BHNE.device.type, enabled=False):
            q_BHNE, k_BHNE = _positive(q_BHNE.float()), _positive(k_BHNE.float())
            summary_BHEE = k_BHNE.transpose(-1, -2) @ v_BHNE.float()
            total_BHN1 = q_BHNE @ k_BHNE.sum(dim=-2).unsqueeze(-1)
            return (q_BHNE @ summary_BHEE / total_BHN1).to(v_BHNE.dtype)


def _positive(x: Tensor) -> Tensor:
    return F.elu(x) + (1 + FEATURE_FLOOR)
