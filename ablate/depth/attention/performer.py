"""FAVOR+ attention (Choromanski et al. 2021, arXiv 2009.14794): softmax by positive random features, O(N).

Constants follow performer_pytorch, the code behind the progress log: int(d ln d) orthogonal features whose
norms are those of Gaussian vectors, 1e-4 added to each feature; drawn once, unless `redraw_every` is given. The
log's module had heads of 64 channels whatever the network's width: `head_dim: 64`, with 8 heads, has projections of
its own from 768 channels to 512 and back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ablate.depth.attention.base import Attention, Grid, attention

OPTIONS = {"features": None, "redraw_every": None, "head_dim": None}

FEATURE_FLOOR = 1e-4
"""Added to every feature, so that no query is left without a key."""


@attention
class PerformerAttention(Attention):
    """Softmax attention approximated with `features` (M x E), a buffer that is saved with the weights.

    The buffer is drawn from a generator seeded by the global one's seed: blocks built one after the other
    get different features, the same ones for the same seed.

    Args:
        features: M; int(E ln E) if not given.
        redraw_every: optimiser steps after which whoever trains it calls `redraw`.
        head_dim: E; D / H if not given. Where H * E is not D, it does not start from the `qkv` and `proj` replaced.
    """

    permutation_equivariant = True
    features: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool,
        features: int | None = None,
        redraw_every: int | None = None,
        head_dim: int | None = None,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        if head_dim is not None and head_dim != self.head_dim:
            self._project(dim, head_dim, qkv_bias)
        self.redraw_every = redraw_every
        count = features or max(1, int(self.head_dim * math.log(self.head_dim)))
        seed = int(torch.randint(2**31, (1,), device="cpu"))
        generator = torch.Generator(device="cpu").manual_seed(seed)
        self.register_buffer("features", orthogonal_features(count, self.head_dim, generator))

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        self.features.copy_(orthogonal_features(self.features.shape[0], self.features.shape[1], generator))

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        # exponentials and sums over all tokens: float32, whatever the network runs in
        with torch.autocast(q_BHNE.device.type, enabled=False):
            q_BHNM = self._positive(q_BHNE.float(), over=(-1,))
            k_BHNM = self._positive(k_BHNE.float(), over=(-1, -2))
            summary_BHME = k_BHNM.transpose(-1, -2) @ v_BHNE.float()
            total_BHN1 = (q_BHNM * k_BHNM.sum(dim=-2, keepdim=True)).sum(dim=-1, keepdim=True)
            out_BHNE = (q_BHNM @ summary_BHME) / total_BHN1
            return out_BHNE.to(v_BHNE.dtype)

    def _positive(self, x_BHNE: Tensor, over: tuple[int, ...]) -> Tensor:
        """Lemma 1 of the paper: phi(x) = m^-1/2 (exp(w.x' - |x'|^2 / 2 - max w.x') + floor), x' = x d^-1/4.

        A query's own maximum and a head's maximum over all keys cancel in the quotient, but for the floor.
        """
        scaled_BHNE = x_BHNE / math.sqrt(math.sqrt(self.head_dim))
        dots_BHNM = scaled_BHNE @ self.features.float().t()
        half_square_BHN1 = scaled_BHNE.square().sum(dim=-1, keepdim=True) / 2
        top: Tensor = dots_BHNM.amax(dim=over, keepdim=True).detach()
        exponent_BHNM = dots_BHNM - half_square_BHN1 - top
        return (exponent_BHNM.exp() + FEATURE_FLOOR) / math.sqrt(self.features.shape[0])


def orthogonal_features(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """`count` x `dim`: blocks of `dim` orthogonal directions, each with the norm of a Gaussian vector of its own."""
    blocks: list[Tensor] = []
    for _ in range(math.ceil(count / dim)):
        square = torch.randn(dim, dim, generator=generator, device="cpu", dtype=torch.float64)
        blocks.append(torch.linalg.qr(square).Q.T)
    norms = torch.randn(count, dim, generator=generator, device="cpu", dtype=torch.float64).norm(dim=1)
    features: Tensor = torch.cat(blocks)[:count] * norms[:, None]
    return features.float()
