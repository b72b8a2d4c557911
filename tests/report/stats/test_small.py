"""Seeds, failure rates, Holm, Pareto and quantiles, against scipy, statsmodels and brute force."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from ablate.report.stats import quantiles
from ablate.report.stats.multiplicity import holm
from ablate.report.stats.pareto import pareto_front
from ablate.report.stats.seeds import failure_rate, over_seeds

numbers = st.floats(-1e6, 1e6)


@given(st.lists(st.one_of(st.none(), numbers), max_size=8), st.integers(0, 3))
def test_seeds_are_counted_against_what_was_planned(values, more):
    found = [value for value in values if value is not None]
    summary = over_seeds(values, len(values) + more)
    assert (summary.n, summary.planned) == (len(found), len(values) + more)
    assert (summary.count == str(len(found))) == (len(found) == len(values) + more)
    assert summary.mean == (pytest.approx(statistics.fmean(found)) if found else None)
    assert summary.sd == (pytest.approx(statistics.stdev(found), abs=1e-6) if len(found) > 1 else None)


def test_a_seed_that_is_not_finite_is_missing_and_not_dropped_in_silence():
    assert over_seeds([0.1, None, 0.3, float("nan"), 0.2]).count == "3/5"
    with pytest.raises(ValueError, match="3 seeds where 2 were planned"):
        over_seeds([1.0, 2.0, 3.0], 2)


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson(failed, more, level):
    rate = failure_rate(failed, failed + more, level)
    low, high = proportion_confint(failed, failed + more, alpha=1 - level, method="wilson")
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


@pytest.mark.parametrize(("failed", "of"), [(1, 5), (3, 3), (0, 4), (7, 30)])
def test_wilson_holds_the_shares_that_a_score_test_does_not_reject(failed, of):
    """From its definition: |share - p| = z sqrt(p (1 - p) / n) at both ends."""
    rate = failure_rate(failed, of)
    for end in (rate.low, rate.high):
        if 0 < end < 1:
            assert abs(failed / of - end) == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(end * (1 - end) / of))
    assert rate.low <= rate.share <= rate.high
    assert failure_rate(0, 0).share is None
    with pytest.raises(ValueError, match="3 failures of 2"):
        failure_rate(3, 2)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=6), st.floats(0.001, 0.2))
def test_holm_rejects_what_its_steps_reject(p_values, alpha):
    """The procedure as published: from the smallest p on, until one exceeds alpha / (those left)."""
    rejected = set()
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - place) * p_values[index] > alpha:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_holm_takes_probabilities_only():
    assert holm([]) == ()
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="is not a probability"):
            holm([0.5, bad])


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=15)


@given(rows, st.tuples(*[st.sampled_from(["min", "max"])] * 3))
def test_pareto_front(values, better):
    named = {f"run {place}": row for place, row in enumerate(values)}
    front, left_out = pareto_front(named, better)

    def beats(one, other):
        good = [a >= b if way == "max" else a <= b for a, b, way in zip(one, other, better, strict=True)]
        return all(good) and any(a != b for a, b in zip(one, other, strict=True))

    assert front == tuple(name for name, row in named.items() if not any(beats(o, row) for o in values))
    assert left_out == () and front
    turned = [tuple(-value for value in row) for row in values]
    ways = ["max" if way == "min" else "min" for way in better]
    assert pareto_front(dict(zip(named, turned, strict=True)), ways)[0] == front


def test_a_run_without_a_value_is_named_and_beats_nobody():
    table = {"a": (0.1, 30.0), "b": (None, 99.0), "c": (0.2, 20.0), "d": (0.1, float("nan"))}
    assert pareto_front(table, ("min", "max")) == (("a",), ("b", "d"))
    with pytest.raises(ValueError, match="e: 1 values for 2 columns"):
        pareto_front({"e": (1.0,)}, ("min", "max"))


@pytest.mark.parametrize("df", [1.0, 2.0, 3.7, 26.0, 1e6])
def test_quantiles_are_those_of_scipy_stats(df):
    for probability in (0.005, 0.5, 0.9, 0.975):
        assert quantiles.t_quantile(probability, df) == pytest.approx(stats.t.ppf(probability, df), abs=1e-12)
        assert quantiles.normal_quantile(probability) == pytest.approx(stats.norm.ppf(probability), abs=1e-12)
    for t in (0.0, -1.3, 4.0):
        assert quantiles.t_two_sided(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df))
        assert quantiles.f_upper(abs(t), 3, df) == pytest.approx(stats.f.sf(abs(t), 3, df))
    assert quantiles.f_quantile(0.9, 3, df) == pytest.approx(stats.f.ppf(0.9, 3, df))
    assert quantiles.t_two_sided(math.inf, df) == quantiles.f_upper(math.inf, 3, df) == 0


def test_the_power_of_a_t_test_is_that_of_the_noncentral_t():
    critical = stats.t.ppf(0.975, 7)
    expected = stats.nct.sf(critical, 7, 1.9) + stats.nct.cdf(-critical, 7, 1.9)
    assert quantiles.t_power(1.9, critical, 7) == pytest.approx(expected)
    draws = stats.nct.rvs(7, 1.9, size=20_000, random_state=np.random.default_rng(0))
    assert np.mean(np.abs(draws) > critical) == pytest.approx(expected, abs=0.015)
    assert quantiles.t_power(30, critical, 7) == pytest.approx(1)
    assert optimize.brentq(lambda shift: quantiles.t_power(shift, critical, 7) - 0.8, 0, 9) == pytest.approx(
        3.18, abs=0.1
    )
