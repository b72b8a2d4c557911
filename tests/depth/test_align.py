"""What alignment may and may not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ablate.depth.align import align
from ablate.depth.protocol import KITTI, NYU, score_crop

SHAPE = (6, 7)
# in steps, so that no example hangs on the last bit of a number
TRUTHS = hnp.arrays(np.float64, SHAPE, elements=st.integers(8, 600).map(lambda n: n / 8))
NOISE = hnp.arrays(np.float64, SHAPE, elements=st.integers(45, 90).map(lambda n: n / 64))
MASKS = hnp.arrays(np.bool_, SHAPE).filter(lambda mask: mask.sum() >= 3)
EVERYWHERE = np.ones(SHAPE, np.bool_)


@given(TRUTHS, NOISE, MASKS, st.floats(0.1, 100), st.floats(-1, 10))
def test_scale_shift_makes_scores_blind_to_affine_changes_of_inverse_depth(
    gt: np.ndarray, noise: np.ndarray, valid: np.ndarray, scale: float, shift: float
) -> None:
    inverse = noise / gt
    one = align(inverse, gt, valid, "scale_shift", KITTI, inverse=True)
    other = align(scale * inverse + shift, gt, valid, "scale_shift", KITTI, inverse=True)
    assert one == pytest.approx(other, rel=1e-5)
    assert score_crop(one, gt, valid, KITTI) == pytest.approx(score_crop(other, gt, valid, KITTI), rel=1e-4, abs=1e-3)


@given(TRUTHS, NOISE, MASKS, st.floats(0.01, 100), st.booleans())
def test_median_makes_scores_blind_to_scale(
    gt: np.ndarray, noise: np.ndarray, valid: np.ndarray, scale: float, inverse: bool
) -> None:
    prediction = noise / gt if inverse else noise * gt
    one = align(prediction, gt, valid, "median", KITTI, inverse=inverse)
    other = align(scale * prediction, gt, valid, "median", KITTI, inverse=inverse)
    assert one == pytest.approx(other, rel=1e-9)
    assert np.median(one[valid]) == pytest.approx(np.median(gt[valid]))


@given(TRUTHS, NOISE, MASKS)
def test_scale_shift_is_least_squares_in_inverse_depth(gt: np.ndarray, noise: np.ndarray, valid: np.ndarray) -> None:
    """Against numpy's solver; nothing else fits better, and pixels that are not scored do not count."""
    inverse = noise / gt
    columns = np.stack([inverse[valid], np.ones(int(valid.sum()))], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(columns, 1 / gt[valid], rcond=1e-10)
    if rank < 2:
        return
    expected = 1 / np.maximum(solution[0] * inverse + solution[1], 1 / 80)
    assert align(inverse, gt, valid, "scale_shift", KITTI, inverse=True) == pytest.approx(expected, rel=1e-5)
    elsewhere = np.where(valid, gt, 3.0)
    assert np.array_equal(
        align(inverse, elsewhere, valid, "scale_shift", KITTI, inverse=True),
        align(inverse, gt, valid, "scale_shift", KITTI, inverse=True),
    )


@given(TRUTHS, st.floats(0.5, 50), st.floats(0, 5))
def test_what_is_right_up_to_scale_and_shift_is_right_once_aligned(gt: np.ndarray, scale: float, shift: float) -> None:
    gt[0, 0], gt[0, 1] = 2, 70  # a flat scene would decide nothing
    inverse = scale / gt + shift
    assert align(inverse, gt, EVERYWHERE, "scale_shift", KITTI, inverse=True) == pytest.approx(gt, rel=1e-6)


@pytest.mark.parametrize("how", ["median", "scale_shift"])
def test_metres_that_are_right_stay(how: str) -> None:
    gt = np.linspace(1, 70, 42).reshape(SHAPE)
    assert align(gt, gt, EVERYWHERE, how, KITTI, inverse=False) == pytest.approx(gt)
    assert align(3 * gt, gt, EVERYWHERE, how, KITTI, inverse=False) == pytest.approx(gt)


@pytest.mark.parametrize("how", ["median", "scale_shift"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 0.3, 1e6])
@pytest.mark.parametrize("inverse", [True, False])
def test_a_prediction_that_says_nothing_gives_numbers_all_the_same(how: str, value: float, inverse: bool) -> None:
    gt = np.linspace(1, 70, 42).reshape(SHAPE)
    aligned = align(np.full(SHAPE, value), gt, EVERYWHERE, how, KITTI, inverse=inverse)
    assert np.isfinite(aligned).all()
    assert np.ptp(aligned) == pytest.approx(0)
    if how == "scale_shift":
        assert aligned[0, 0] == pytest.approx(1 / np.mean(1 / gt))


def test_what_lies_beyond_the_cap_is_at_the_cap() -> None:
    gt = np.full(SHAPE, 5.0)
    gt[:3] = 9.0
    valid = EVERYWHERE.copy()
    valid[0, 0] = False
    inverse = np.where(gt == 5, 2.0, 1.0)
    inverse[0, 0] = -100  # behind the camera
    assert align(inverse, gt, valid, "scale_shift", NYU, inverse=True)[0, 0] == pytest.approx(10)


def test_without_alignment_metres_stay_as_they_are_and_inverse_depth_is_refused() -> None:
    gt = np.full(SHAPE, 5.0)
    prediction = np.full(SHAPE, 4.0, np.float32)
    assert align(prediction, gt, EVERYWHERE, "none", KITTI, inverse=False) is prediction
    with pytest.raises(ValueError, match="no depth in metres"):
        align(prediction, gt, EVERYWHERE, "none", KITTI, inverse=True)
