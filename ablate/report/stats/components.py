"""Variance components of a paired difference: seeds crossed with drives, images nested in drives.

The model of the difference of two arms, seed s, image i of drive k (docs/statistics.md):

    d[s, i] = delta + a[s] + b[k] + g[s, k] + c[i] + e[s, i]

all effects random, independent, of mean 0. Every seed has every image; drives may have any number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ablate.report.stats.scores import Floats, Whole


class MeanSquare(NamedTuple):
    """A mean square and its degrees of freedom; 0 and 0 where the data have none."""

    value: float
    df: int


@dataclass(frozen=True)
class DriveVariance:
    """What drives and images, but not seeds, add to the variance of the mean difference.

    `variance` is var(b) h + var(c) / I with h the sum over drives of (images / I)^2, estimated by the method of
    moments and cut off at 0; `spread` is the sum of (coefficient x mean square)^2 / df, for Satterthwaite's formula
    (0 where it was cut off). The others are estimates of single components, each cut off at 0.
    """

    variance: float
    spread: float
    drives: int
    images: int
    drive: float
    """var(b)"""
    image: float
    """var(c)"""
    seed_drive: float
    """var(g)"""
    noise: float
    """var(e)"""


def one_way(row_NI: Floats, drive_I: Whole) -> tuple[Floats, Floats]:
    """Sums of squares of each row between and within drives (N, N), not about 0 but about the row's mean."""
    sums_NK = np.zeros((len(row_NI), int(drive_I.max()) + 1))
    np.add.at(sums_NK.T, drive_I, row_NI.T)
    count_K = np.bincount(drive_I)
    mean_NK = sums_NK / count_K
    between = (count_K * (mean_NK - row_NI.mean(1, keepdims=True)) ** 2).sum(1)
    within = ((row_NI - mean_NK[:, drive_I]) ** 2).sum(1)
    return between, within


def drive_variance(mean_I: Floats, deviations: Sequence[Floats], drive_I: Whole) -> DriveVariance:
    """From the difference averaged over seeds (I) and from the seeds' deviations from it.

    deviations: one n x I array for a paired difference (d - mean_I); one per arm, each about its own mean, where
    seeds are not paired. ANOVA estimators for unbalanced data (Henderson's first method; Searle, Casella and
    McCulloch 1992, chapters 3 and 5).
    """
    count_K = np.bincount(drive_I)
    images, drives = len(drive_I), len(count_K)
    h = float((count_K.astype(np.float64) ** 2).sum()) / images**2
    n0 = (images - h * images) / (drives - 1)  # images per drive, as unbalanced drives count
    between, within = one_way(mean_I[None], drive_I)
    of_mean = _square(between, drives - 1), _square(within, images - drives)
    terms = [(h / n0, of_mean[0]), (1 / images - h / n0, of_mean[1])]
    seed_drive = noise = seed_drive_mean = noise_mean = 0.0
    for rows_SI in deviations:
        n = len(rows_SI)
        between, within = one_way(rows_SI, drive_I)
        by_drive, by_image = _square(between, (n - 1) * (drives - 1)), _square(within, (n - 1) * (images - drives))
        terms += [(-h / (n * n0), by_drive), (h / (n * n0) - 1 / (n * images), by_image)]
        seed_drive += max(0.0, by_drive.value - by_image.value) / n0
        noise += by_image.value
        seed_drive_mean += (by_drive.value - by_image.value) / (n0 * n)
        noise_mean += by_image.value / n
    variance = sum(weight * square.value for weight, square in terms)
    spread = sum((weight * square.value) ** 2 / square.df for weight, square in terms if square.df)
    return DriveVariance(
        variance=max(0.0, variance),
        spread=spread if variance > 0 else 0.0,
        drives=drives,
        images=images,
        drive=max(0.0, (of_mean[0].value - of_mean[1].value) / n0 - seed_drive_mean),
        image=max(0.0, of_mean[1].value - noise_mean),
        seed_drive=seed_drive,
        noise=noise,
    )


def _square(sums: Floats, df: int) -> MeanSquare:
    return MeanSquare(float(sums.sum()) / df, df) if df > 0 else MeanSquare(0.0, 0)
