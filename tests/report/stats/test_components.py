"""Mean squares, components and intervals against statsmodels' ANOVA tables and mixed models, and by their symmetries."""

import math

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.anova import anova_lm

from ablate.report.stats.components import drive_variance, one_way
from ablate.report.stats.difference import difference, observed, spread
from ablate.report.stats.pooling import SeedVariance
from ablate.report.stats.scores import Scores


def scores(values, drives):
    images = tuple(f"{place:04}" for place in range(len(drives)))
    runs = {str(arm): dict(enumerate(rows)) for arm, rows in enumerate(values)}
    return Scores(images, np.asarray(drives, dtype=np.intp), runs, 0)


def drawn(rng, arms=3, seeds=4, sizes=(3, 5, 4, 9, 2), effect=0.0, uneven=0.0):
    drive_I = np.repeat(np.arange(len(sizes)), sizes)
    images = len(drive_I)
    value = (
        rng.normal(size=images) + 0.5 * rng.normal(size=(arms, seeds, 1)) + 0.3 * rng.normal(size=(arms, seeds, images))
    )
    value = value + 0.4 * rng.normal(size=(arms, seeds, len(sizes)))[:, :, drive_I]
    value[1] += effect + (uneven * rng.normal(size=len(sizes)))[drive_I]
    return 10 + value, drive_I


def test_mean_squares_are_those_of_an_anova_table_of_unbalanced_drives():
    value_ASI, drive_I = drawn(np.random.default_rng(1))
    row = (value_ASI[1] - value_ASI[0]).mean(0)
    table = anova_lm(ols("d ~ C(drive)", pandas.DataFrame({"d": row, "drive": drive_I})).fit())
    between, within = one_way(row[None], drive_I)
    assert between[0] == pytest.approx(table.loc["C(drive)", "sum_sq"])
    assert within[0] == pytest.approx(table.loc["Residual", "sum_sq"])


def test_the_interval_is_that_of_a_crossed_anova_where_drives_are_balanced():
    """With as many images per drive, all is in the cell means: (MS_seed + MS_drive - MS_rest) / (n K)."""
    value_ASI, drive_I = drawn(np.random.default_rng(2), arms=2, sizes=(6,) * 5, effect=1.0, uneven=2.0)
    one = difference(scores(value_ASI, drive_I), "1", "0")
    cells = (value_ASI[1] - value_ASI[0]).reshape(4, 5, 6).mean(2)
    frame = pandas.DataFrame([(s, k, cells[s, k]) for s in range(4) for k in range(5)], columns=["seed", "drive", "d"])
    table = anova_lm(ols("d ~ C(seed) + C(drive)", frame).fit())
    seed, drive, rest = (table.loc[name, "mean_sq"] for name in ("C(seed)", "C(drive)", "Residual"))
    assert drive > rest, "this case is about drives that matter"
    variance = (seed + drive - rest) / 20
    assert one.seeds.variance == pytest.approx(seed / 20)
    assert one.variance == pytest.approx(variance)
    parts = (seed / 20) ** 2 / 3 + one.drives.spread
    assert one.df == pytest.approx(max(3, variance**2 / parts))
    t = one.estimate / math.sqrt(variance)
    assert one.p == pytest.approx(max(2 * stats.t.sf(abs(t), one.df), stats.ttest_1samp(cells.mean(1), 0).pvalue))


def test_components_are_those_of_a_mixed_model_of_balanced_data():
    """Where no estimate is negative, REML and the method of moments agree on balanced data (Searle et al. 1992, chapter 4)."""
    rng = np.random.default_rng(5)
    drive_I = np.repeat(np.arange(12), 6)
    row = 2.0 * rng.normal(size=12)[drive_I] + rng.normal(size=72)
    found = drive_variance(row, [], drive_I)
    fit = MixedLM(row, np.ones((72, 1)), groups=drive_I).fit(reml=True)
    assert found.drive == pytest.approx(float(fit.cov_re[0, 0]), rel=1e-4)
    assert found.image == pytest.approx(float(fit.scale), rel=1e-4)
    assert found.variance == pytest.approx(float(fit.bse_fe[0]) ** 2, rel=1e-4)


def test_the_method_of_moments_is_unbiased_where_drives_and_seeds_are_few_and_uneven():
    """1,500 draws of known components; the cut at 0 is left out by making drives matter."""
    rng = np.random.default_rng(7)
    sizes, seeds = (2, 9, 4, 5, 12, 3), 3
    drive_I = np.repeat(np.arange(6), sizes)
    h = sum(size**2 for size in sizes) / len(drive_I) ** 2
    found = []
    for _ in range(1500):
        rows = 2.0 * rng.normal(size=6)[drive_I] + 0.5 * rng.normal(size=35) + 0.3 * rng.normal(size=(seeds, 1))
        rows = rows + 0.5 * rng.normal(size=(seeds, 6))[:, drive_I] + 0.8 * rng.normal(size=(seeds, 35))
        mean = rows.mean(0)
        one = drive_variance(mean, [rows - mean], drive_I)
        found.append((one.variance, one.drive, one.image, one.seed_drive, one.noise))
    truth = (4 * h + 0.25 / 35, 4.0, 0.25, 0.25, 0.64)
    error = np.std(found, axis=0) / math.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - truth) < 4 * error + 0.01 * np.array(truth))


def test_what_the_seeds_explain_is_not_counted_again_as_drives():
    """Seeds that disagree by drive, and a mean over them that does not: the estimate is negative, and cut off at 0."""
    drive_I = np.repeat(np.arange(6), 4)
    rows = np.random.default_rng(0).normal(size=6)[drive_I]
    found = drive_variance(np.zeros(24), [np.stack([rows, -rows])], drive_I)
    assert (found.variance, found.spread, found.drive) == (0.0, 0.0, 0.0)
    assert found.seed_drive > 0


def test_two_arms_whose_drives_do_not_matter_are_a_paired_t_test_of_the_seeds():
    rng = np.random.default_rng(3)
    value = rng.normal(size=(2, 5, 1)) + np.zeros((2, 5, 12))
    one = difference(scores(value, np.repeat(np.arange(4), 3)), "1", "0")
    expected = stats.ttest_rel(value[1].mean(1), value[0].mean(1))
    assert one.p == pytest.approx(expected.pvalue)
    assert (one.low, one.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize(("seeds", "drives"), [(2, 3), (3, 28), (10, 5)])
@pytest.mark.parametrize("uneven", [0.0, 0.2, 3.0])
def test_an_interval_is_never_narrower_than_by_seeds_alone(seeds, drives, uneven):
    for draw in range(30):
        value_ASI, drive_I = drawn(np.random.default_rng(draw), 3, seeds, tuple([4, 2, 7] * 10)[:drives], 1.0, uneven)
        one = difference(scores(value_ASI, drive_I), "1", "0")
        by_seeds = stats.t.ppf(0.975, one.seeds.df) * math.sqrt(one.seeds.variance)
        assert (one.high - one.low) / 2 >= by_seeds * (1 - 1e-12)
        assert min(one.seeds.df, one.drives.drives - 1) <= one.df


def test_satterthwaite_is_between_the_fewest_and_the_sum_of_the_degrees_of_freedom():
    rng = np.random.default_rng(0)
    row = 3 * rng.normal(size=8).repeat(4)
    drives = drive_variance(row, [], np.repeat(np.arange(8), 4))
    both = spread(SeedVariance(drives.variance, 6, 3, True, ("a", "b")), drives)
    assert both.df == pytest.approx(4 / (1 / 6 + 1 / 7), rel=1e-6), "equal parts, all of it between drives"
    alone = spread(SeedVariance(1e9, 6, 3, True, ("a", "b")), drives)
    assert alone.df == pytest.approx(6, rel=1e-3)


sizes = st.lists(st.integers(1, 6), min_size=2, max_size=6).filter(lambda found: sum(found) > 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=sizes, seeds=st.integers(2, 5), scale=st.sampled_from([1e-3, 7.0, 1e4]))
def test_symmetries_of_a_difference(seed, sizes, seeds, scale):
    """Scaling scales it, exchanging the arms turns its sign, and no order of seeds, images or drives matters."""
    rng = np.random.default_rng(seed)
    value_ASI, drive_I = drawn(rng, 3, seeds, tuple(sizes), effect=0.4, uneven=0.5)
    one = difference(scores(value_ASI, drive_I), "1", "0")
    scaled = difference(scores(value_ASI * scale, drive_I), "1", "0")
    assert (scaled.estimate, scaled.low, scaled.high) == pytest.approx(
        (one.estimate * scale, one.low * scale, one.high * scale)
    )
    assert scaled.p == pytest.approx(one.p)
    turned = difference(scores(value_ASI, drive_I), "0", "1")
    assert (turned.estimate, turned.low, turned.p) == pytest.approx((-one.estimate, -one.high, one.p))
    order = rng.permutation(len(drive_I))
    shuffled = value_ASI[:, rng.permutation(seeds)][:, :, order]
    names = rng.permutation(len(sizes))
    again = difference(scores(shuffled, names[drive_I][order]), "1", "0")
    assert (again.estimate, again.low, again.high, again.p) == pytest.approx((one.estimate, one.low, one.high, one.p))


def test_seeds_that_are_not_shared_are_compared_without_pairs():
    value_ASI, drive_I = drawn(np.random.default_rng(11), arms=2, seeds=6)
    whole = scores(value_ASI, drive_I)
    runs = {"0": {s: whole.runs["0"][s] for s in range(3)}, "1": {s: whole.runs["1"][s] for s in range(3, 6)}}
    one = difference(Scores(whole.images, whole.drive_I, runs, 0), "1", "0")
    pooled = stats.ttest_ind(value_ASI[1, 3:].mean(1), value_ASI[0, :3].mean(1))
    assert not one.seeds.paired and one.seeds.df == 4
    assert one.estimate / math.sqrt(one.seeds.variance) == pytest.approx(pooled.statistic)


def test_one_seed_tells_nothing_but_what_the_networks_did():
    value_ASI, drive_I = drawn(np.random.default_rng(4), arms=2, seeds=1, uneven=1.0)
    assert difference(scores(value_ASI, drive_I), "1", "0") is None
    seen = observed(scores(value_ASI, drive_I), "1", "0")
    assert seen.estimate == pytest.approx((value_ASI[1] - value_ASI[0]).mean())
    assert seen.low < seen.estimate < seen.high


def test_seeds_that_change_nothing_are_no_repetitions():
    value_ASI, drive_I = drawn(np.random.default_rng(4), arms=2, seeds=1)
    assert difference(scores(np.repeat(value_ASI, 3, axis=1), drive_I), "1", "0") is None
