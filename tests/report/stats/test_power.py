"""What `plan` promises: a study of that size finds that difference four times in five."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from ablate.report.stats.difference import difference
from ablate.report.stats.power import Noise, noise_of, smallest_differences
from ablate.report.stats.scores import Scores


def test_two_arms_whose_drives_do_not_matter_are_a_paired_t_test():
    for one in smallest_differences(Noise(per_seed=4.0, drives=0.0, drives_df=27), arms=2):
        size = TTestPower().solve_power(nobs=one.seeds, alpha=0.05, power=0.8)
        assert one.smallest == pytest.approx(2 * size, rel=1e-4)


def test_more_seeds_and_fewer_comparisons_show_smaller_differences():
    noise = Noise(per_seed=1.0, drives=0.05, drives_df=20)
    three, five, ten = (one.smallest for one in smallest_differences(noise, arms=4))
    assert three > five > ten > 2.8 * math.sqrt(0.05), "no number of seeds makes up for too few drives"
    (strict,) = smallest_differences(noise, 4, [5], comparisons=3)
    assert strict.smallest > five
    scaled = smallest_differences(Noise(4.0, 0.2, 20), arms=4)
    assert [one.smallest for one in scaled] == pytest.approx([2 * three, 2 * five, 2 * ten])
    for arms, seeds in ((1, 3), (2, 1)):
        with pytest.raises(ValueError, match="a difference needs two of each"):
            smallest_differences(noise, arms, [seeds])
    with pytest.raises(ValueError, match="nothing has been compared yet"):
        noise_of([])


@pytest.mark.parametrize("uneven", [0.0, 0.6])
def test_a_study_finds_the_promised_difference_four_times_in_five(uneven):
    rng = np.random.default_rng(8)
    drives, per, seeds, arms = 20, 4, 3, 3
    drive_I = np.repeat(np.arange(drives), per)
    truth = Noise(per_seed=2 * (0.5**2 + 0.3**2 / drives), drives=uneven**2 / drives, drives_df=drives - 1)
    (promised,) = smallest_differences(truth, arms, [seeds])
    images, found, noise = tuple(map(str, range(len(drive_I)))), 0, []
    for _ in range(400):
        value = 0.5 * rng.normal(size=(arms, seeds, 1)) + 0.3 * rng.normal(size=(arms, seeds, drives))[:, :, drive_I]
        value[1] += promised.smallest + uneven * rng.normal(size=drives)[drive_I]
        scores = Scores(images, drive_I, {str(a): dict(enumerate(rows)) for a, rows in enumerate(value)}, 0)
        one = difference(scores, "1", "0")
        found += one.p <= 0.05
        noise.append(noise_of([one]))
    assert found / 400 == pytest.approx(0.8, abs=0.07)
    assert np.mean([one.per_seed for one in noise]) == pytest.approx(truth.per_seed, rel=0.15)
