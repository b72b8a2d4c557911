"""Seed variance against the residual of statsmodels' two-way fits, with seeds missing, and with an unstable arm."""

import math

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols

from ablate.report.stats.pooling import larger, seed_variance


def study(rng, arms=4, seeds=3, **spread):
    return {
        name: {seed: 5 + place + spread.get(name, 0.1) * float(rng.normal()) for seed in range(seeds)}
        for place, name in enumerate("abcdefgh"[:arms])
    }


def fitted(means):
    rows = [(arm, seed, value) for arm, row in means.items() for seed, value in row.items()]
    return ols("y ~ C(arm) + C(seed)", pandas.DataFrame(rows, columns=["arm", "seed", "y"])).fit()


def alike(rng, arms, seeds):
    """A study whose arms are of one variance, so that all are pooled."""
    while True:
        means = study(rng, arms, seeds)
        if not larger(means, 0.1):
            return means


def test_the_variance_is_pooled_over_all_arms():
    means = alike(np.random.default_rng(0), 4, 3)
    fit, found = fitted(means), seed_variance(means, "b", "a")
    assert found.df == fit.df_resid == 6
    assert math.sqrt(found.variance) == pytest.approx(fit.bse["C(arm)[T.b]"])
    assert found.pooled == ("a", "b", "c", "d") and found.paired


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), drop=st.sets(st.tuples(st.sampled_from("abcd"), st.integers(0, 4)), max_size=5))
def test_missing_seeds_leave_the_residual_of_the_two_way_fit(seed, drop):
    means = alike(np.random.default_rng(seed), 4, 5)
    means = {arm: {s: v for s, v in row.items() if (arm, s) not in drop} for arm, row in means.items()}
    means = {arm: row for arm, row in means.items() if len(row) >= 2}
    if not {"a", "b"} <= means.keys() or len(set(means["a"]) & set(means["b"])) < 2 or larger(means, 0.1):
        return
    fit, found = fitted(means), seed_variance(means, "b", "a")
    common = len(set(means["a"]) & set(means["b"]))
    assert found.df == fit.df_resid
    assert found.variance == pytest.approx(2 * fit.mse_resid / common)


def test_two_arms_are_a_paired_t_test():
    means = study(np.random.default_rng(1), arms=2, seeds=5)
    found = seed_variance(means, "b", "a")
    differences = np.array(list(means["b"].values())) - np.array(list(means["a"].values()))
    assert (found.df, found.variance) == (4, pytest.approx(differences.var(ddof=1) / 5))


def test_an_unstable_arm_is_judged_by_its_own_seeds_and_spoils_no_other():
    means = study(np.random.default_rng(2), arms=5, seeds=4, c=5.0)
    own, other = seed_variance(means, "c", "a"), seed_variance(means, "b", "a")
    differences = [means["c"][seed] - means["a"][seed] for seed in range(4)]
    assert (own.df, own.variance) == (3, pytest.approx(np.var(differences, ddof=1) / 4))
    assert other.df == 9 and "c" not in other.pooled
    assert other.variance == pytest.approx(2 * fitted({k: v for k, v in means.items() if k != "c"}).mse_resid / 4)


def test_the_f_test_is_the_ratio_of_an_arm_to_all_others():
    means = study(np.random.default_rng(3), arms=3, seeds=4, b=0.5)
    own = np.var(list(means["b"].values()), ddof=1)
    others = np.mean([np.var(list(means[arm].values()), ddof=1) for arm in "ac"])
    p = stats.f.sf(own / others, 3, 6)
    assert "b" in larger(means, p * 1.001)
    assert "b" not in larger(means, p * 0.999)


def test_two_arms_cannot_tell_which_of_them_is_odd():
    assert larger(study(np.random.default_rng(3), arms=2, b=100.0), 0.1) == set()


def test_seeds_of_their_own_are_welch_where_the_variances_differ():
    rng = np.random.default_rng(9)
    means = {"a": dict(enumerate(rng.normal(size=4))), "b": dict(enumerate(30 * rng.normal(size=4), 10))}
    means |= {name: dict(enumerate(rng.normal(size=4), 20 + 10 * place)) for place, name in enumerate("cd")}
    found = seed_variance(means, "b", "a")
    first, second = list(means["b"].values()), list(means["a"].values())
    welch = stats.ttest_ind(first, second, equal_var=False)
    assert not found.paired and found.df == int(welch.df)
    assert (np.mean(first) - np.mean(second)) / math.sqrt(found.variance) == pytest.approx(welch.statistic)


@pytest.mark.parametrize("means", [
    {"a": {0: 1.0}, "b": {0: 2.0}},
    {"a": {0: 1.0, 1: 1.1}, "b": {0: 2.0}},
    {"a": {0: 1.0, 1: 1.1}, "b": {}},
    {"a": {0: 1.0}, "b": {1: 2.0, 2: 2.5}, "c": {1: 2.0, 2: 2.5}},
])  # fmt: skip
def test_one_seed_of_an_arm_is_too_few_however_many_the_others_have(means):
    assert seed_variance(means, "b", "a") is None
