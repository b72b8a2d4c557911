from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.divergence import Detector, GoodLoss, Limits
from ablate.errors import CheckpointError

losses = st.floats(0, 1e6)
limits = st.builds(
    Limits,
    factor=st.one_of(st.none(), st.floats(1.01, 50)),
    window=st.integers(1, 12),
    warmup=st.integers(1, 15),
)
not_finite = st.sampled_from([math.nan, math.inf, -math.inf])


def fed(detector: Detector, values: list[float], first: int = 1) -> list[str | None]:
    """The cause at each step, or None."""
    found = [detector.check(1, step, loss) for step, loss in enumerate(values, first)]
    return [None if one is None else one.cause for one in found]


def test_an_explosion_is_told_in_a_sentence() -> None:
    detector = Detector(Limits(factor=10, window=5, warmup=3))
    assert fed(detector, [9.0, 2.0, 1.0, 2.0, 1.5, 1.0]) == [None] * 6
    found = detector.check(2, 7, 15.5)  # the median of the last five, 2 1 2 1.5 1, is 1.5
    assert found is not None and (found.cause, found.value, found.median) == ("loss_exploded", 15.5, 1.5)
    assert found.last_good == GoodLoss(1, 6, 1.0) and found.part is None
    assert found.reason == (
        "the training loss is 15.5, 10.3 times the median of the last 5 steps, 1.5 (the limit is 10 times) "
        "in epoch 2, step 7; the last good loss was 1 in epoch 1, step 6"
    )
    assert detector.check(2, 7, 15.0) is None  # at the limit, not above it


def test_other_causes_are_told_too() -> None:
    detector = Detector(Limits())
    first = detector.check(1, 1, math.nan)
    assert first is not None and first.last_good is None
    assert first.reason == "the training loss is nan in epoch 1, step 1; no step before it was good"
    assert detector.check(1, 1, 0.25, {"encoder": 1.0, "decoder": 2.0}) is None
    negative = detector.check(1, 2, -0.5)
    assert (
        negative is not None and negative.cause == "negative_loss" and "is negative, -0.5 in epoch 1" in negative.reason
    )
    gradient = detector.check(1, 2, 0.5, {"encoder": 1.0, "decoder": math.inf})
    assert gradient is not None and (gradient.cause, gradient.part) == ("gradient_not_finite", "decoder")
    assert "the gradient of decoder has the norm inf in epoch 1, step 2; the last good loss was 0.25" in gradient.reason


@given(limits, st.data())
def test_noise_within_the_factor_never_alarms(limit: Limits, data: st.DataObject) -> None:
    lowest = data.draw(st.floats(1e-6, 1e6))
    highest = lowest * (limit.factor or 1e6)
    values = data.draw(st.lists(st.floats(lowest, highest), max_size=60))
    assert fed(Detector(limit), values) == [None] * len(values)


@given(limits, st.lists(losses, max_size=40), not_finite)
def test_what_is_not_finite_always_alarms(limit: Limits, before: list[float], bad: float) -> None:
    detector = Detector(limit)
    fed(detector, before)
    found = detector.check(3, 1, bad)
    assert found is not None and found.cause == "loss_not_finite" and str(bad) in found.reason
    norm = Detector(Limits(factor=None)).check(1, 1, 1.0, {"head": bad})
    assert norm is not None and norm.cause == "gradient_not_finite"
    negative = detector.check(3, 1, -1e-12)
    assert negative is not None and negative.cause == "negative_loss"


@settings(max_examples=200)
@given(limits, st.lists(st.one_of(losses, st.just(0.0), st.just(math.nan)), max_size=60))
def test_every_answer_follows_from_the_good_losses_before(limit: Limits, values: list[float]) -> None:
    """Against the rule spelled out: medians over lists, no state."""
    good: list[float] = []
    for step, (loss, cause) in enumerate(zip(values, fed(Detector(limit), values), strict=True), 1):
        median = statistics.median(good[-limit.window :]) if len(good) >= limit.warmup else 0
        exploded = limit.factor is not None and median > 0 and loss > limit.factor * median
        assert cause == ("loss_not_finite" if math.isnan(loss) else "loss_exploded" if exploded else None), step
        if cause is None:
            good.append(loss)


@given(limits, st.lists(losses, max_size=50), st.lists(st.one_of(losses, not_finite), max_size=50))
def test_a_restored_detector_has_the_same_future(limit: Limits, past: list[float], future: list[float]) -> None:
    whole, resumed = Detector(limit), Detector(limit)
    fed(whole, past)
    resumed.restore(json.loads(json.dumps(whole.state(), allow_nan=False)))
    assert resumed.state() == whole.state() and resumed.last_good == whole.last_good
    first = len(past) + 1
    assert [whole.check(2, first + i, loss) for i, loss in enumerate(future)] == [
        resumed.check(2, first + i, loss) for i, loss in enumerate(future)
    ]


def test_an_alarm_changes_nothing() -> None:
    detector = Detector(Limits(factor=2, warmup=1))
    detector.check(1, 1, 1.0)
    before = detector.state()
    for bad in (math.nan, -1.0, 3.0):
        assert detector.check(1, 2, bad) is not None
    assert detector.check(1, 2, 1.0, {"all": math.nan}) is not None
    assert detector.state() == before


def test_batches_without_truth_do_not_make_the_next_an_explosion() -> None:
    """Their loss is 0, and nothing is a multiple of 0."""
    assert fed(Detector(Limits(factor=2, warmup=1, window=4)), [0.0, 0.0, 5.0, 5.0, 5.0]) == [None] * 5


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"losses": ["x"], "seen": 1, "last_good": None},
        {"losses": [1.0], "seen": 0, "last_good": None},
        {"losses": [-1.0], "seen": 1, "last_good": None},
        {"losses": [math.nan], "seen": 1, "last_good": None},
        {"losses": [1.0], "seen": 1, "last_good": [1, 2]},
        {"losses": 3, "seen": 1, "last_good": None},
    ],
)
def test_damaged_state_is_refused(state: dict) -> None:
    detector = Detector(Limits())
    detector.check(1, 1, 1.0)
    before = detector.state()
    with pytest.raises(CheckpointError, match="record of earlier losses is damaged"):
        detector.restore(state)
    assert detector.state() == before


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"factor": math.inf}, {"window": 0}, {"warmup": 0}])
def test_limits_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limits(**wrong)


def test_it_loads_no_torch() -> None:
    code = "import sys, ablate.depth.divergence; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
