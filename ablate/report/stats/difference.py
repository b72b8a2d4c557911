"""The difference of an arm from its baseline, with an interval for other seeds and other drives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ablate.report.stats.components import DriveVariance, drive_variance
from ablate.report.stats.pooling import Means, Pool, SeedVariance, pooled, seed_variance
from ablate.report.stats.quantiles import t_quantile, t_two_sided
from ablate.report.stats.scores import Floats, Scores

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """`estimate` is the mean over images and seeds of arm - baseline, in the metric's unit.

    `relative` is `estimate` over the baseline's mean. `low`, `high` and `p` are of the t-type interval of level
    `level`, before any correction for several comparisons.
    """

    arm: str
    baseline: str
    estimate: float
    relative: float | None
    low: float
    high: float
    p: float
    df: float
    level: float
    seeds: SeedVariance
    drives: DriveVariance

    @property
    def variance(self) -> float:
        return self.seeds.variance + self.drives.variance


class Spread(NamedTuple):
    """The two t-type intervals that an interval covers: by seeds alone, and by seeds and drives."""

    seeds_only: float
    seeds_df: float
    variance: float
    df: float

    def half_width(self, level: float) -> float:
        return max(
            t_quantile(0.5 + level / 2, self.seeds_df) * math.sqrt(self.seeds_only),
            t_quantile(0.5 + level / 2, self.df) * math.sqrt(self.variance),
        )

    def p(self, estimate: float) -> float:
        return max(
            t_two_sided(_ratio(estimate, self.seeds_only), self.seeds_df),
            t_two_sided(_ratio(estimate, self.variance), self.df),
        )


def spread(seeds: SeedVariance, drives: DriveVariance) -> Spread:
    """Both variances added up, with Satterthwaite's (1946) degrees of freedom.

    Some coefficients are negative, where the formula can fall below any of its parts: it is held at the fewest that
    a part has.
    """
    variance = seeds.variance + drives.variance
    parts = seeds.variance**2 / seeds.df + drives.spread
    df = variance**2 / parts if parts else math.inf
    fewest = min(seeds.df, drives.drives - 1) if drives.variance else seeds.df
    return Spread(seeds.variance, float(seeds.df), variance, max(float(fewest), min(df, 1e9)))


def _ratio(estimate: float, variance: float) -> float:
    return estimate / math.sqrt(variance) if variance > 0 else math.inf if estimate else 0.0


def difference(
    scores: Scores, arm: str, baseline: str, level: float = LEVEL, means: Means | Pool | None = None
) -> Difference | None:
    """`arm` minus `baseline`, paired by image, and by seed where both have at least two seeds in common.

    None where there are too few seeds to tell how much they matter, or where they change nothing.
    `means` are `scores.means()`, or what `pooled` makes of them, if the caller has them.
    """
    means = scores.means() if means is None else means
    pool = means if isinstance(means, Pool) else pooled(means)
    seeds = seed_variance(pool, arm, baseline)
    if seeds is None or _nothing(seeds, pool):
        return None
    mean_I, deviations, base = _paired(scores, arm, baseline) if seeds.paired else _apart(scores, arm, baseline)
    drives = drive_variance(mean_I, deviations, scores.drive_I)
    estimate = float(mean_I.mean())
    both = spread(seeds, drives)
    half = both.half_width(level)
    return Difference(
        arm=arm,
        baseline=baseline,
        estimate=estimate,
        relative=estimate / base if base else None,
        low=estimate - half,
        high=estimate + half,
        p=both.p(estimate),
        df=both.df,
        level=level,
        seeds=seeds,
        drives=drives,
    )


def _nothing(seeds: SeedVariance, pool: Pool) -> bool:
    """Whether the seeds change no more than rounding does."""
    largest = max(abs(value) for row in pool.means.values() for value in row.values())
    return seeds.variance <= (1e-12 * largest) ** 2


def _paired(scores: Scores, arm: str, baseline: str) -> tuple[Floats, list[Floats], float]:
    """The difference by image (I), the seeds' deviations from it, and the baseline's mean."""
    seeds = [seed for seed in scores.runs[arm] if seed in scores.runs[baseline]]
    base_SI = np.stack([scores.runs[baseline][seed] for seed in seeds])
    difference_SI = np.stack([scores.runs[arm][seed] for seed in seeds]) - base_SI
    mean_I = difference_SI.mean(0)
    return mean_I, [difference_SI - mean_I], float(base_SI.mean())


def _apart(scores: Scores, arm: str, baseline: str) -> tuple[Floats, list[Floats], float]:
    values = [np.stack(list(scores.runs[name].values())) for name in (arm, baseline)]
    first_I, second_I = (rows_SI.mean(0) for rows_SI in values)
    return first_I - second_I, [values[0] - first_I, values[1] - second_I], float(second_I.mean())


@dataclass(frozen=True)
class Observed:
    """What two sets of trained networks differ by on these images; the interval is for other drives, not other seeds."""

    estimate: float
    relative: float | None
    low: float
    high: float


def observed(scores: Scores, arm: str, baseline: str, level: float = LEVEL) -> Observed:
    """The mean over images of arm - baseline, each averaged over its seeds, however few those are.

    It describes the networks that were trained, and supports no verdict on the settings that they were trained with.
    """
    first_I, second_I = (np.stack(list(scores.runs[name].values())).mean(0) for name in (arm, baseline))
    estimate, base = float((first_I - second_I).mean()), float(second_I.mean())
    relative = estimate / base if base else None
    if len(scores.images) < 2:
        return Observed(estimate, relative, -math.inf, math.inf)
    drives = drive_variance(first_I - second_I, [], scores.drive_I)
    df = max(1.0, drives.variance**2 / drives.spread) if drives.spread else float(drives.drives - 1)
    half = t_quantile(0.5 + level / 2, df) * math.sqrt(drives.variance)
    return Observed(estimate, relative, estimate - half, estimate + half)
