"""The published KITTI evaluation: crop, network input size, mask, caps.

The rules are those of isl-org/DPT's `run_monodepth.py` and of the evaluator that BTS published (`eval_with_pngs.py`).
Sizes are (height, width) in pixels; depths are metres.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablate.depth.metrics import depth_metrics
from ablate.errors import DataError

MIN_DEPTH = 1e-3
MAX_DEPTH = 80.0
"""Ground truth is valid strictly between these; predictions are clamped to them."""

KITTI_SCALE = 0.00006016
KITTI_SHIFT = 0.00579
"""DPT's KITTI head predicts x >= 0 with depth = 1 / (KITTI_SCALE * x + KITTI_SHIFT); both in 1/m."""

KB_HEIGHT = 352
KB_WIDTH = 1216

Mask = Literal["garg", "eigen", "none"]

_BORDERS: dict[str, tuple[float, float, float, float]] = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
"""Top, bottom, left, right as shares of the uncropped frame (Garg et al. 2016, Eigen et al. 2014)."""


class Box(NamedTuple):
    """A rectangle of pixels: `image[box.rows, box.columns]`."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


def kb_crop(height: int, width: int) -> Box:
    """The KITTI benchmark's crop of a frame: 352x1216, at the bottom and centred.

    Raises DataError if the frame is smaller.
    """
    if height < KB_HEIGHT or width < KB_WIDTH:
        raise DataError(
            f"a frame of {height}x{width} (height x width) is smaller than the {KB_HEIGHT}x{KB_WIDTH} crop that the "
            "KITTI protocol evaluates; evaluate on frames at their original size, about 375x1242"
        )
    return Box(height - KB_HEIGHT, (width - KB_WIDTH) // 2, KB_HEIGHT, KB_WIDTH)


def network_size(height: int, width: int, target: tuple[int, int] | None, multiple: int = 32) -> tuple[int, int]:
    """The size that a frame of `height` x `width` is given to the network at.

    DPT's rule "minimal": the aspect is kept by the axis whose scale towards `target` is nearer 1, then both sides
    are rounded to multiples (352x1216 towards 192x640 gives 192x672). Without a target the size is unchanged.
    """
    if target is None:
        return height, width
    scale_y, scale_x = target[0] / height, target[1] / width
    scale = scale_x if abs(1 - scale_x) < abs(1 - scale_y) else scale_y
    return _to_multiple(scale * height, multiple), _to_multiple(scale * width, multiple)


def valid_mask(gt: NDArray[np.floating], mask: Mask) -> NDArray[np.bool_]:
    """Where an uncropped ground truth (HW, metres, 0 = none) is scored: within the depth cap and the mask's borders."""
    valid = (gt > MIN_DEPTH) & (gt < MAX_DEPTH)
    if mask == "none":
        return valid
    height, width = gt.shape
    top, bottom, left, right = _BORDERS[mask]
    inside = np.zeros_like(valid)
    inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return valid & inside


def score(prediction: NDArray[np.floating], gt: NDArray[np.floating], mask: Mask) -> dict[str, float] | None:
    """The nine metrics of one image at native resolution, or None if it has no valid pixel.

    prediction: HW metres over the full frame; only what lies in the KITTI benchmark's crop is read, so that the
    fill outside it is never scored, not even without a mask. Clamped to [1e-3, 80]; NaN counts as 1e-3, as published.
    Raises ValueError if the shapes differ and DataError if the frame is smaller than the crop.
    """
    if prediction.shape != gt.shape:
        raise ValueError(f"prediction {prediction.shape} and ground truth {gt.shape} differ in shape")
    box = kb_crop(*gt.shape)
    valid = valid_mask(gt, mask)[box.rows, box.columns]
    if not valid.any():
        return None
    predicted = prediction[box.rows, box.columns][valid].astype(np.float64)
    predicted = np.clip(np.where(np.isnan(predicted), MIN_DEPTH, predicted), MIN_DEPTH, MAX_DEPTH)
    return depth_metrics(gt[box.rows, box.columns][valid], predicted)


def _to_multiple(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
