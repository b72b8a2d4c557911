"""The nine depth metrics, as Eigen et al. (2014) and the KITTI benchmark define them and BTS and DPT print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

KEYS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")
"""In the order of the progress log's tables."""


def depth_metrics(gt: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """Nine metrics of one image from its valid pixels.

    gt, prediction: metres, finite and positive, same shape, at least one pixel. Computed in float64.
    d1..d3 are shares (0-1); sq_rel and rmse are in metres; rmse_log is in natural-log units; silog is x 100.
    Raises ValueError if the shapes differ or there is no pixel.
    """
    y, p = _pair(gt, prediction)
    worse = np.maximum(y / p, p / y)
    error = y - p
    log_error = np.log(p) - np.log(y)
    mean_square_log = float(np.mean(log_error**2))
    # A constant ratio gives a variance of 0, which rounding may turn into a tiny negative number.
    variance_log = max(0.0, mean_square_log - float(np.mean(log_error)) ** 2)
    return {
        "d1": float(np.mean(worse < 1.25)),
        "d2": float(np.mean(worse < 1.25**2)),
        "d3": float(np.mean(worse < 1.25**3)),
        "abs_rel": float(np.mean(np.abs(error) / y)),
        "sq_rel": float(np.mean(error**2 / y)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(mean_square_log)),
        "silog": float(100 * np.sqrt(variance_log)),
        "log10": float(np.mean(np.abs(log_error)) / np.log(10)),
    }


def mean_metrics(images: Iterable[Mapping[str, float] | None]) -> dict[str, float | None]:
    """The mean over images of each metric: every image counts the same, however many valid pixels it has.

    None stands for an image without a valid pixel and is left out; if no image is left, every mean is None.
    """
    scored = [metrics for metrics in images if metrics is not None]
    if not scored:
        return dict.fromkeys(KEYS)
    return {key: float(np.mean([metrics[key] for metrics in scored])) for key in KEYS}


def _pair(gt: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, p = np.asarray(gt, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.shape != p.shape:
        raise ValueError(f"ground truth {y.shape} and prediction {p.shape} differ in shape")
    if not y.size:
        raise ValueError("no pixel to score")
    return y, p
