"""Fits a prediction to its ground truth before it is scored: what a relative model needs, and what hides a scale error.

Networks of the MiDaS kind predict inverse depth up to a scale and a shift that differ from image to image (Ranftl et
al. 2020, arXiv 1907.01341, section 5). Read as metres it means nothing; aligned, it can be scored.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.depth.protocol import DepthProtocol

Align = Literal["none", "median", "scale_shift"]

TINY = 1e-8
"""Smallest depth (m) and inverse depth (1/m) that is divided by."""


def align(
    prediction: NDArray[np.floating],
    gt: NDArray[np.floating],
    valid: NDArray[np.bool_],
    how: Align,
    protocol: DepthProtocol,
    *,
    inverse: bool,
) -> NDArray[np.floating]:
    """The prediction in metres (HW), fitted to the ground truth at the valid pixels, of which there is at least one.

    prediction: HW metres, or with `inverse` relative inverse depth in any unit. gt: HW metres.
    `median`: depth times the ratio of the medians. `scale_shift`: least squares in inverse depth, as MiDaS and DPT
    align; what it puts beyond the protocol's cap, or behind the camera, is at the cap.
    Raises ValueError for inverse depth that is not to be aligned.
    """
    if how == "none":
        if inverse:
            raise ValueError("inverse depth is no depth in metres: align it (median, scale_shift)")
        return prediction
    values = prediction.astype(np.float64)
    if how == "median":
        depth: NDArray[np.float64] = 1 / np.maximum(values, TINY) if inverse else values
        return depth * (float(np.median(gt[valid])) / max(float(np.median(depth[valid])), TINY))
    disparity = values if inverse else 1 / np.maximum(values, protocol.min_depth)
    scale, shift = _least_squares(disparity[valid], 1 / gt[valid].astype(np.float64))
    fitted: NDArray[np.float64] = 1 / np.maximum(scale * disparity + shift, 1 / protocol.max_depth)
    return fitted


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """(a, b) of the least mean (a x + b - y)^2; a = 0 where all x are equal."""
    mean_x, mean_y = float(x.mean()), float(y.mean())
    centred = x - mean_x
    spread = float(centred @ centred)
    # equal values leave rounding errors of their mean behind
    flat = spread <= x.size * (4 * np.finfo(np.float64).eps * max(abs(mean_x), TINY)) ** 2
    scale = 0.0 if flat else float(centred @ (y - mean_y)) / spread
    return scale, mean_y - scale * mean_x
