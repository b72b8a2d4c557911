"""The smallest difference that a number of seeds can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.report.stats.difference import Difference
from ablate.report.stats.pooling import OWN_VARIANCE
from ablate.report.stats.quantiles import f_quantile, t_power, t_quantile

POWER, ALPHA = 0.8, 0.05
SEEDS = (3, 5, 10)


@dataclass(frozen=True)
class Noise:
    """What the differences of a study were found to vary by, averaged over its comparisons.

    `per_seed` is the variance of the difference of one seed, in the metric's unit squared; `drives` what remains with
    any number of seeds, which `drives_df` degrees of freedom tell.
    """

    per_seed: float
    drives: float
    drives_df: float


@dataclass(frozen=True)
class Detectable:
    """`seeds` per arm show a difference of `smallest`, in the metric's unit, with the power that was asked for."""

    seeds: int
    smallest: float


def noise_of(differences: Sequence[Difference]) -> Noise:
    """Raises ValueError without differences."""
    if not differences:
        raise ValueError("nothing has been compared yet, so it is not known how much seeds and drives matter")
    count = len(differences)
    dfs = [one.drives.variance**2 / one.drives.spread for one in differences if one.drives.spread]
    fewest = min(one.drives.drives for one in differences) - 1
    return Noise(
        per_seed=math.fsum(one.seeds.per_seed for one in differences) / count,
        drives=math.fsum(one.drives.variance for one in differences) / count,
        drives_df=max(1.0, min([float(fewest), *dfs])),
    )


def smallest_differences(
    noise: Noise, arms: int, seeds: Sequence[int] = SEEDS, *, comparisons: int = 1, alpha: float = ALPHA
) -> tuple[Detectable, ...]:
    """For each number of seeds, what a study of `arms` arms (the baseline among them) shows with a power of 0.8.

    The test is that of `difference`, with the seed variance pooled over all arms. With `comparisons` its level is
    alpha / comparisons, the first step of Holm's procedure. Noncentral t; the variances are taken as known, and
    one comparison in five as judged by its own seeds, as happens by chance where three or more arms are pooled.
    """
    return tuple(Detectable(n, _smallest(noise, arms, n, alpha / comparisons)) for n in seeds)


def _smallest(noise: Noise, arms: int, n: int, alpha: float) -> float:
    if arms < 2 or n < 2:
        raise ValueError(f"{n} seeds of {arms} arms: a difference needs two of each")
    by_seeds, df = noise.per_seed / n, (arms - 1) * (n - 1)
    error = math.sqrt(by_seeds + noise.drives)
    if error == 0:
        return 0.0
    pooled = _test(by_seeds, noise, df, alpha)
    share, alone = 0.0, pooled
    if arms > 2:
        # Either arm may look unstable by chance; its variance is then at least that many times the pooled one.
        share = 1 - (1 - OWN_VARIANCE) ** 2
        times = (1 + f_quantile(1 - OWN_VARIANCE, n - 1, df)) / 2
        alone = _test(by_seeds * times, noise, n - 1, alpha)[0] * math.sqrt(by_seeds * times + noise.drives) / error, df

    def power(shift: float) -> float:
        return (1 - share) * t_power(shift, *pooled) + share * t_power(shift, *alone)

    low, high = 0.0, 1.0
    while power(high) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high * error


def _test(by_seeds: float, noise: Noise, seeds_df: int, alpha: float) -> tuple[float, float]:
    """Critical value, in standard errors of the estimate, and degrees of freedom; the wider of two intervals decides."""
    variance, tail = by_seeds + noise.drives, 1 - alpha / 2
    df = variance**2 / (by_seeds**2 / seeds_df + noise.drives**2 / noise.drives_df)
    return max(t_quantile(tail, df), t_quantile(tail, seeds_df) * math.sqrt(by_seeds / variance)), df
