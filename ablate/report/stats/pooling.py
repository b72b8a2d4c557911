"""How much the seeds move the difference of two arms, learned from all arms of a study.

Three seeds alone give two degrees of freedom, which can show next to nothing. Arms of one study mostly have about the
same seed-to-seed variance, so it is pooled, except where an arm's own is plainly larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ablate.report.stats.quantiles import f_upper

OWN_VARIANCE = 0.10
"""Level of the F test by which an arm with a larger variance than the others' is judged by its own."""
LEAVES_POOL = 0.05
"""Level, divided by the number of arms, by which such an arm no longer counts for the others."""

Means = Mapping[str, Mapping[int, float]]
"""The mean over the images, by arm and seed."""


@dataclass(frozen=True)
class SeedVariance:
    """The variance of an estimated difference that comes from the seeds, with its degrees of freedom.

    `pooled` names the arms that it was learned from; `n` are the seeds of the difference, of the smaller arm if they
    are not paired; `per_seed` is the variance of the difference of one seed.
    """

    variance: float
    df: int
    n: int
    paired: bool
    pooled: tuple[str, ...]

    @property
    def per_seed(self) -> float:
        return self.variance * self.n


@dataclass(frozen=True)
class Pool:
    """What all comparisons of a study share: learned once from the means of all arms."""

    means: Means
    unstable: frozenset[str]
    """Arms whose variance is larger than the others' (`OWN_VARIANCE`)."""
    arms: Means
    """Those that count for the others."""
    square: float
    """Residual mean square of arm + seed, of `df` degrees of freedom; 0 and 0 if there are none."""
    df: int


def pooled(means: Means) -> Pool:
    usable = {name: seeds for name, seeds in means.items() if len(seeds) >= 2}
    arms = _pool(usable)
    return Pool(means, frozenset(larger(usable, OWN_VARIANCE)), arms, *_additive(arms))


def seed_variance(means: Means | Pool, arm: str, baseline: str) -> SeedVariance | None:
    """The variance for `arm` minus `baseline`; None where neither two seeds are paired nor both arms have two.

    Paired seeds: 2 MS / n, MS the residual mean square of arm + seed (randomised blocks; Fisher), fitted by least
    squares so that seeds may be missing. Where an arm's variance is larger than the others' (`OWN_VARIANCE`), its
    comparisons use their own n differences. Otherwise: MS (1/n + 1/m) with MS pooled within arms, or Welch's.
    """
    pool = means if isinstance(means, Pool) else pooled(means)
    means = pool.means
    both = [seed for seed in means[arm] if seed in means[baseline]]
    paired = len(both) >= 2
    if not paired and min(len(means[arm]), len(means[baseline])) < 2:
        return None
    own = bool({arm, baseline} & pool.unstable) or not {arm, baseline} <= pool.arms.keys()
    if paired:
        differences = [means[arm][seed] - means[baseline][seed] for seed in both]
        square, df = (0.0, 0) if own else (pool.square, pool.df)
        if df < len(both) - 1:
            own = True
        if own:
            return SeedVariance(_variance(differences) / len(both), len(both) - 1, len(both), True, (arm, baseline))
        return SeedVariance(2 * square / len(both), df, len(both), True, tuple(pool.arms))
    return _unpaired(means, arm, baseline, {} if own else pool.arms)


def larger(means: Means, level: float) -> set[str]:
    """The arms whose variance over seeds is larger than that of all others together, by a one-sided F test.

    At least three arms are needed to say which of them is odd.
    """
    found: set[str] = set()
    if len(means) < 3:
        return found
    squares = {arm: (_variance(seeds.values()) * (len(seeds) - 1), len(seeds) - 1) for arm, seeds in means.items()}
    total, dfs = math.fsum(sum_ for sum_, _ in squares.values()), sum(df for _, df in squares.values())
    for arm, (own, df) in squares.items():
        others = max(0.0, total - own) / (dfs - df)
        ratio = own / df / others if others > 0 else math.inf if own > 0 else 0.0
        if f_upper(ratio, df, dfs - df) < level:
            found.add(arm)
    return found


def _pool(means: Means) -> dict[str, Mapping[int, float]]:
    odd = larger(means, LEAVES_POOL / max(1, len(means)))
    return {arm: seeds for arm, seeds in means.items() if arm not in odd}


def _additive(means: Means) -> tuple[float, int]:
    """Residual mean square of arm + seed and its degrees of freedom; (0, 0) if there are none left."""
    place = {seed: number for number, seed in enumerate(sorted({seed for row in means.values() for seed in row}))}
    designs, values = [], []
    for row in means.values():
        design = np.zeros((len(row), len(place)))
        design[range(len(row)), [place[seed] for seed in row]] = 1
        value = np.array(list(row.values()))
        # The arms' part is taken out of both sides (Frisch, Waugh and Lovell), so that only seeds remain to be fitted.
        designs.append(design - design.mean(0))
        values.append(value - value.mean())
    if not designs:
        return 0.0, 0
    seeds_NS, values_N = np.concatenate(designs), np.concatenate(values)
    df = len(values_N) - len(means) - int(np.linalg.matrix_rank(seeds_NS))
    if df <= 0:
        return 0.0, 0
    residual_N = values_N - seeds_NS @ np.linalg.lstsq(seeds_NS, values_N, rcond=None)[0]
    return float(residual_N @ residual_N) / df, df


def _unpaired(means: Means, arm: str, baseline: str, pool: Means) -> SeedVariance:
    n, m = len(means[arm]), len(means[baseline])
    dfs = sum(len(row) - 1 for row in pool.values())
    if dfs:
        square = math.fsum(_variance(row.values()) * (len(row) - 1) for row in pool.values()) / dfs
        return SeedVariance(square * (1 / n + 1 / m), dfs, min(n, m), False, tuple(pool))
    first, second = _variance(means[arm].values()) / n, _variance(means[baseline].values()) / m
    parts = first**2 / (n - 1) + second**2 / (m - 1)
    df = int((first + second) ** 2 / parts) if parts else min(n, m) - 1  # Welch 1947; rounded down, so on the safe side
    return SeedVariance(first + second, max(1, df), min(n, m), False, (arm, baseline))


def _variance(values: Iterable[float]) -> float:
    return float(np.var(list(values), ddof=1))
