"""Against the published formulas, written out as slow loops, and against properties that they must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ablate.depth.config import METRIC_KEYS
from ablate.depth.metrics import KEYS, depth_metrics, mean_metrics

METRES = st.floats(1e-3, 80, allow_nan=False)
PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(hnp.arrays(np.float64, n, elements=METRES), hnp.arrays(np.float64, n, elements=METRES))
)


def by_hand(gt: list[float], prediction: list[float]) -> dict[str, float]:
    n = len(gt)
    pairs = list(zip(gt, prediction, strict=True))
    logs = [math.log(p) - math.log(y) for y, p in pairs]
    return {
        **{f"d{k}": sum(max(y / p, p / y) < 1.25**k for y, p in pairs) / n for k in (1, 2, 3)},
        "abs_rel": sum(abs(y - p) / y for y, p in pairs) / n,
        "sq_rel": sum((y - p) ** 2 / y for y, p in pairs) / n,
        "rmse": math.sqrt(sum((y - p) ** 2 for y, p in pairs) / n),
        "rmse_log": math.sqrt(sum(e * e for e in logs) / n),
        "silog": 100 * math.sqrt(max(0.0, sum(e * e for e in logs) / n - (sum(logs) / n) ** 2)),
        "log10": sum(abs(math.log10(y) - math.log10(p)) for y, p in pairs) / n,
    }


def test_keys_are_in_the_order_of_the_logs_tables() -> None:
    assert KEYS == METRIC_KEYS == ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")
    assert tuple(depth_metrics([1.0], [2.0])) == KEYS


def test_figures_worked_out_on_paper() -> None:
    metrics = depth_metrics([10.0, 20.0], [11.0, 30.0])
    assert metrics["abs_rel"] == pytest.approx((0.1 + 0.5) / 2)
    assert metrics["sq_rel"] == pytest.approx((0.1 + 5) / 2)
    assert metrics["rmse"] == pytest.approx(math.sqrt((1 + 100) / 2))
    assert (metrics["d1"], metrics["d2"], metrics["d3"]) == (0.5, 1.0, 1.0)


@given(PAIRS)
def test_equals_the_formulas_written_as_loops(pair: tuple[np.ndarray, np.ndarray]) -> None:
    gt, prediction = pair
    expected = by_hand(gt.tolist(), prediction.tolist())
    assert depth_metrics(gt, prediction) == pytest.approx(expected, rel=1e-6, abs=1e-4)


@given(hnp.arrays(np.float32, 12, elements=st.floats(0.5, 79, width=32)), st.floats(0.5, 2))
def test_silog_ignores_scale_and_is_never_nan(gt: np.ndarray, scale: float) -> None:
    assert depth_metrics(gt, gt * scale)["silog"] == pytest.approx(0, abs=1e-3)
    assert depth_metrics(gt, gt)["abs_rel"] == 0


def test_a_threshold_is_strict() -> None:
    assert depth_metrics([4.0], [5.0])["d1"] == 0  # 1.25 exactly


def test_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        depth_metrics([], [])
    with pytest.raises(ValueError, match="shape"):
        depth_metrics([1.0, 2.0], [1.0])


def test_the_mean_counts_images_not_pixels() -> None:
    one, other = depth_metrics([10.0], [11.0]), depth_metrics([10.0, 10.0, 10.0], [20.0, 20.0, 20.0])
    mean = mean_metrics([one, None, other])
    assert mean["abs_rel"] == pytest.approx((0.1 + 1.0) / 2)
    assert mean["rmse"] == pytest.approx((1 + 10) / 2)  # a mean of roots
    assert tuple(mean) == KEYS


def test_no_image_gives_no_number() -> None:
    assert mean_metrics([None, None]) == dict.fromkeys(KEYS)
    assert mean_metrics([]) == dict.fromkeys(KEYS)
