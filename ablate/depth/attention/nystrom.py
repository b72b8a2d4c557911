"""Nystrom attention (Nystromformer, Xiong et al. 2021, arXiv 2102.03902, section 3.2 and eq. 13 and 14): O(N m).

softmax(q L_k^T) pinv(softmax(L_q L_k^T)) softmax(L_q k^T) v, where the m landmarks L are means of segments of tokens.
The pseudo-inverse takes the paper's six iterations, each head of each image by itself. The paper's convolution of
the values beside the attention is left out: it is no attention, and a pretrained network has none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.depth.attention.base import Attention, Grid, attention

OPTIONS = {"landmarks": 64}

ITERATIONS = 6
"""Of the pseudo-inverse, as in the paper. More are no better: they follow small singular values, and errors grow."""


@attention
class NystromAttention(Attention):
    """Approximates standard attention, and is standard attention if there are no more tokens than landmarks.

    Its rows sum to 1 only as far as the pseudo-inverse has converged and the landmarks' matrix has full rank: not
    promised, and single weights may be negative.
    """

    rows_sum_to_one = False

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, landmarks: int) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        if landmarks < 1:
            raise ValueError(f"landmarks must be at least 1, not {landmarks}")
        self.landmarks = landmarks

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        if q_BHNE.shape[2] <= self.landmarks:
            return F.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE)
        # an inverse is no matter for bfloat16, whatever the network runs in
        with torch.autocast(q_BHNE.device.type, enabled=False):
            q_BHNE, k_BHNE = q_BHNE.float() * self.head_dim**-0.5, k_BHNE.float()
            means_MN = segment_means(q_BHNE.shape[2], self.landmarks, q_BHNE.device)
            q_BHME, k_BHME = means_MN @ q_BHNE, means_MN @ k_BHNE
            near_BHNM = (q_BHNE @ k_BHME.transpose(-1, -2)).softmax(dim=-1)
            core_BHMM = (q_BHME @ k_BHME.transpose(-1, -2)).softmax(dim=-1)
            far_BHME = F.scaled_dot_product_attention(q_BHME, k_BHNE, v_BHNE.float(), scale=1.0)
            return (near_BHNM @ (pseudo_inverse(core_BHMM) @ far_BHME)).to(v_BHNE.dtype)


def segment_means(tokens: int, segments: int, device: torch.device) -> Tensor:
    """M x N: row m averages the tokens of segment m. Lengths of segments differ by one at most."""
    segment_N = torch.arange(tokens, device=device) * segments // tokens
    member_MN = (segment_N == torch.arange(segments, device=device)[:, None]).float()
    return member_MN / member_MN.sum(dim=1, keepdim=True)


def pseudo_inverse(matrix: Tensor) -> Tensor:
    """... x M x M -> the same, for matrices whose rows sum to 1 (eq. 14 of the paper, after Razavi et al. 2014)."""
    largest = matrix.abs().sum(dim=-2).amax(dim=-1) * matrix.abs().sum(dim=-1).amax(dim=-1)
    inverse = matrix.transpose(-1, -2) / largest[..., None, None]
    identity = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    for _ in range(ITERATIONS):
        product = matrix @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = inverse @ (13 * identity - product @ inner) / 4
    return inverse
