"""Depth error by ground-truth range: a mean over all pixels is mostly one of near ones, and says little of 60 m."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ablate.depth.protocol import DepthProtocol
from ablate.evaluated import Breakdown, Column

WIDE, NARROW = 10.0, 1.0
"""Metres of a range; the narrow ones for protocols whose cap is below 40 m."""

COLUMNS = (
    Column("pixels", "pixels"),
    Column("abs_rel", "AbsRel"),
    Column("rmse", "RMSE", "m"),
    Column("bias", "mean signed error", "m"),
)


class Ranges:
    """Sums over the scored pixels of all images, in float64 and in the order of the images."""

    def __init__(self, protocol: DepthProtocol) -> None:
        self._cap = protocol.max_depth
        self._width = WIDE if self._cap >= 40 else NARROW
        count = math.ceil(self._cap / self._width)
        self._pixels = np.zeros(count, dtype=np.int64)
        self._sums_3R = np.zeros((3, count))

    def add(self, gt: NDArray[np.floating], prediction: NDArray[np.floating]) -> None:
        """The scored pixels of one image: metres, same shape, within the protocol's cap."""
        truth = gt.astype(np.float64).ravel()
        error = prediction.astype(np.float64).ravel() - truth
        count = self._pixels.size
        place = np.minimum((truth / self._width).astype(np.intp), count - 1)
        self._pixels += np.bincount(place, minlength=count)
        for row, weights in enumerate((np.abs(error) / truth, error**2, error)):
            self._sums_3R[row] += np.bincount(place, weights=weights, minlength=count)

    def breakdown(self) -> Breakdown:
        """Every pixel counts the same, so that ranges that few images have are not lost in noise."""
        rows = []
        for number, pixels in enumerate(self._pixels.tolist()):
            low = number * self._width
            abs_rel, square, bias = (self._sums_3R[:, number] / pixels).tolist() if pixels else (None, None, None)
            rmse = None if square is None else math.sqrt(square)
            ends = {"low": low, "high": min(low + self._width, self._cap)}
            rows.append({**ends, "pixels": pixels, "abs_rel": abs_rel, "rmse": rmse, "bias": bias})
        return Breakdown("ground-truth depth", "m", COLUMNS, tuple(rows))
