"""Several seeds of one arm as one number, and failed trainings as an outcome of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.report.stats.quantiles import normal_quantile


@dataclass(frozen=True)
class SeedSummary:
    """`n` of `planned` seeds have a number; `sd` (of single seeds, divisor n - 1) is None for fewer than two."""

    mean: float | None
    sd: float | None
    n: int
    planned: int

    @property
    def count(self) -> str:
        """'5', or '4/5' where a seed is missing."""
        return str(self.n) if self.n == self.planned else f"{self.n}/{self.planned}"


def over_seeds(values: Sequence[float | None], planned: int | None = None) -> SeedSummary:
    """Mean and standard deviation over seeds; None stands for one that diverged, failed or has not finished.

    Raises ValueError if fewer were planned than there are.
    """
    found = [value for value in values if value is not None and math.isfinite(value)]
    planned = len(values) if planned is None else planned
    if planned < len(values):
        raise ValueError(f"{len(values)} seeds where {planned} were planned")
    if not found:
        return SeedSummary(None, None, 0, planned)
    mean = math.fsum(found) / len(found)
    squares = math.fsum((value - mean) ** 2 for value in found)
    sd = math.sqrt(squares / (len(found) - 1)) if len(found) > 1 else None
    return SeedSummary(mean, sd, len(found), planned)


@dataclass(frozen=True)
class Rate:
    """A share with its interval; all None where nothing was tried."""

    failed: int
    of: int
    share: float | None
    low: float | None
    high: float | None


def failure_rate(failed: int, of: int, level: float = 0.95) -> Rate:
    """How often trainings that ended had failed, with Wilson's score interval (Wilson 1927; Brown, Cai, DasGupta 2001).

    Raises ValueError unless 0 <= failed <= of.
    """
    if not 0 <= failed <= of:
        raise ValueError(f"{failed} failures of {of}")
    if of == 0:
        return Rate(0, 0, None, None, None)
    share, z2 = failed / of, normal_quantile(0.5 + level / 2) ** 2
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = math.sqrt(z2 * (share * (1 - share) / of + z2 / (4 * of**2))) / (1 + z2 / of)
    # At the ends the interval touches 0 or 1 exactly, but for rounding.
    low = 0.0 if failed == 0 else centre - half
    high = 1.0 if failed == of else centre + half
    return Rate(failed, of, share, low, high)
