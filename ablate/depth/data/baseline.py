"""What can be predicted without looking at the image: the mean depth of the training frames at each pixel.

A network that does not beat this by far has learnt the camera's position and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.images import METRES_PER_UNIT, load_depth, load_raw_depth, squash_depth
from ablate.depth.data.kitti import Frame
from ablate.depth.metrics import mean_metrics
from ablate.depth.protocol import MAX_DEPTH, MIN_DEPTH, Mask, score
from ablate.errors import DataError


def mean_depth(frames: Sequence[Frame], size: tuple[int, int]) -> NDArray[np.float32]:
    """The mean of the valid depths (HW metres at `size`) of frames squashed to it, each frame counting once per pixel.

    A pixel at which no frame has depth takes the value of the nearest one that has, first within its column.
    Raises DataError if no frame has any valid depth.
    """
    total, count = np.zeros(size), np.zeros(size, np.int64)
    for frame in frames:
        metres = squash_depth(load_raw_depth(frame.depth), size) * METRES_PER_UNIT
        valid = (metres > MIN_DEPTH) & (metres < MAX_DEPTH)
        total += np.where(valid, metres, 0)
        count += valid
    if not count.any():
        raise DataError("no training frame has a depth between 0.001 and 80 m")
    mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    for column in np.flatnonzero((count > 0).any(axis=0)):
        _fill(mean[:, column])
    for row in mean:
        _fill(row)
    filled: NDArray[np.float32] = mean.astype(np.float32)
    return filled


def score_constant(prediction_HW: NDArray[np.float32], frames: Sequence[Frame], mask: Mask) -> dict[str, float | None]:
    """Mean metrics of one prediction, whatever its size, used for every frame at the frame's own resolution."""
    images = []
    for frame in frames:
        gt = load_depth(frame.depth)
        rows, columns = (
            (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(gt.shape, prediction_HW.shape, strict=True)
        )
        images.append(score(prediction_HW[rows[:, None], columns], gt, mask))
    return mean_metrics(images)


def _fill(values: NDArray[np.float64]) -> None:
    """Replaces NaNs in place by the nearest number, the earlier one if two are as near."""
    known = np.flatnonzero(~np.isnan(values))
    places = np.arange(values.size)
    after = np.clip(np.searchsorted(known, places), 0, known.size - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.where(np.abs(known[before] - places) <= np.abs(known[after] - places), before, after)
    values[:] = values[known[nearer]]
