"""Quantiles and tails of the normal, t and F distributions, as plain floats. The only file that knows scipy.

`scipy.special` and not `scipy.stats`, which takes a second to import.
"""

from __future__ import annotations

import math

from scipy import special


def normal_quantile(probability: float) -> float:
    return float(special.ndtri(probability))


def t_quantile(probability: float, df: float) -> float:
    """df > 0, not necessarily whole."""
    return float(special.stdtrit(df, probability))


def t_two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) for Student's t with `df` degrees of freedom; 0 for an infinite t."""
    return 0.0 if math.isinf(t) else float(2 * special.stdtr(df, -abs(t)))


def t_power(shift: float, critical: float, df: float) -> float:
    """P(|T| > critical) for the noncentral t distribution with noncentrality `shift` >= 0."""
    within, below = special.nctdtr(df, shift, critical), special.nctdtr(df, shift, -critical)
    # scipy gives NaN for some probabilities that are 0 to double precision, far from the shift.
    return 1 - sum(sign * float(part) for sign, part in ((1, within), (-1, below)) if not math.isnan(part))


def f_quantile(probability: float, df_above: float, df_below: float) -> float:
    return float(special.fdtri(df_above, df_below, probability))


def f_upper(f: float, df_above: float, df_below: float) -> float:
    """P(F >= f); 0 for an infinite f."""
    return 0.0 if math.isinf(f) else float(special.fdtrc(df_above, df_below, f))
