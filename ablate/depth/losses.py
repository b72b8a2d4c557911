"""Training losses. Shapes: B images, H x W pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from ablate.depth.protocol import MAX_DEPTH, MIN_DEPTH

VARIANCE_FOCUS = 0.5
"""Eigen, Puhrsch & Fergus 2014, equation 4."""


def trainable(truth: Tensor) -> Tensor:
    """Where ground truth (metres, 0 = none) can be trained on."""
    return (truth > MIN_DEPTH) & (truth < MAX_DEPTH)


def silog(prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """Scale-invariant log error: mean(g^2) - mean(g)^2 / 2, g = ln prediction - ln truth, per image, then the mean.

    Images without a valid pixel are left out of the mean; a batch of such images gives 0 with gradient 0.
    Never negative: mean(g^2) - mean(g)^2 / 2 = var(g) + mean(g)^2 / 2.

    Args:
        prediction_B1HW: metres, > 0.
        truth_B1HW: metres; read at valid pixels only.
        valid_B1HW: bool.
    """
    # 1 in place of what is not valid: log(0) would send NaN through `where` into the gradient
    ratio = torch.where(valid_B1HW, prediction_B1HW, 1.0) / torch.where(valid_B1HW, truth_B1HW, 1.0)
    g_BP = ratio.log().flatten(1)
    valid_BP = valid_B1HW.flatten(1)
    count_B1 = valid_BP.sum(dim=1, keepdim=True)
    mean_B1 = g_BP.sum(dim=1, keepdim=True) / count_B1.clamp(min=1)
    spread_BP = torch.where(valid_BP, g_BP - mean_B1, 0.0)
    variance_B = spread_BP.square().sum(dim=1) / count_B1[:, 0].clamp(min=1)
    loss_B = variance_B + (1 - VARIANCE_FOCUS) * mean_B1[:, 0].square()
    return loss_B.sum() / (count_B1 > 0).sum().clamp(min=1)
