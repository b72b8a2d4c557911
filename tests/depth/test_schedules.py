"""Schedules are torch's, step by step, but need no state: each step's factor is compared with a stepped scheduler's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torchs

from ablate.depth.schedules import Schedule, ScheduleName

NAMES = ("constant", "cosine", "one_cycle", "poly")
LR = 0.37


def factors(schedule: Schedule, total: int) -> list[float]:
    return [schedule.factor(step, total) for step in range(total)]


def stepped(make: Callable[[torch.optim.Optimizer], torchs.LRScheduler], steps: int) -> list[float]:
    """What torch's scheduler sets, as factors."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler, seen = make(optimizer), []
    for step in range(steps):
        seen.append(optimizer.param_groups[0]["lr"] / LR)
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    return seen


near = lambda expected: pytest.approx(expected, rel=1e-11, abs=1e-12)  # noqa: E731


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.floats(0, 1))
def test_cosine_is_torchs(total: int, floor: float) -> None:
    expected = stepped(lambda o: torchs.CosineAnnealingLR(o, T_max=total, eta_min=floor * LR), total)
    assert factors(Schedule("cosine", floor=floor), total) == near(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.sampled_from([0.5, 0.9, 1.0, 2.0]))
def test_poly_is_torchs(total: int, power: float) -> None:
    expected = stepped(lambda o: torchs.PolynomialLR(o, total_iters=total, power=power), total)
    # torch multiplies the ratios of neighbouring steps, so its rounding grows with the step
    assert factors(Schedule("poly", power=power), total) == pytest.approx(expected, rel=1e-11)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.sampled_from([0.0, 0.1, 0.3, 0.45]), st.floats(1, 50), st.floats(1, 1e5))
def test_one_cycle_is_torchs(total: int, peak: float, start: float, end: float) -> None:
    if peak * total == 1:
        return  # torch divides by 0 there; see below
    expected = stepped(
        lambda o: torchs.OneCycleLR(
            o, LR, total_steps=total, pct_start=peak, div_factor=start, final_div_factor=end, cycle_momentum=False
        ),
        total,
    )
    got = factors(Schedule("one_cycle", peak=peak, start_divisor=start, end_divisor=end), total)
    assert got == near(expected)


@pytest.mark.parametrize("total, peak", [(1, 1.0), (2, 0.5), (10, 0.1), (4, 1.0)])
def test_one_cycle_where_torch_divides_by_zero(total: int, peak: float) -> None:
    seen = factors(Schedule("one_cycle", peak=peak), total)
    assert max(seen) == 1 == seen[round(peak * total) - 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 30))
def test_warm_up_is_torchs_linear_one(warmup: int, rest: int) -> None:
    def warm(o: torch.optim.Optimizer) -> torchs.LRScheduler:
        return torchs.LinearLR(o, start_factor=1 / (warmup + 1), total_iters=warmup)

    expected = stepped(warm, warmup + rest)
    assert factors(Schedule("constant", warmup_steps=warmup), warmup + rest) == near(expected)
    after = stepped(lambda o: torchs.CosineAnnealingLR(o, T_max=rest), rest)
    assert factors(Schedule("cosine", warmup_steps=warmup), warmup + rest) == near(expected[:warmup] + after)


def test_worked_examples() -> None:
    assert factors(Schedule(), 3) == [1, 1, 1]
    assert factors(Schedule(warmup_steps=3), 5) == [0.25, 0.5, 0.75, 1, 1]
    assert factors(Schedule("poly", power=1), 4) == [1, 0.75, 0.5, 0.25]
    assert factors(Schedule("poly", power=2, floor=0.2), 2) == pytest.approx([1, 0.4])
    assert factors(Schedule("cosine"), 4) == pytest.approx([1, 0.8535533905932737, 0.5, 0.14644660940672627])
    assert factors(Schedule("one_cycle", peak=0.5, start_divisor=4, end_divisor=10), 6) == pytest.approx(
        [0.25, 0.625, 1, 0.75625, 0.26875, 0.025]
    )


@given(
    st.sampled_from(NAMES),
    st.integers(1, 500),
    st.integers(0, 600),
    st.floats(0, 1),
    st.floats(0.1, 4),
    st.floats(0, 1),
    st.data(),
)
def test_factors_stay_in_range_and_never_jump_up(
    name: ScheduleName, total: int, warmup: int, floor: float, power: float, peak: float, data: st.DataObject
) -> None:
    schedule = Schedule(name, warmup_steps=warmup, floor=floor, power=power, peak=peak)
    step = data.draw(st.integers(0, total - 1))
    value = schedule.factor(step, total)
    assert 0 <= value <= 1 + 1e-12 and (value > 0 or floor == 0)
    if step and step < min(warmup, total):
        assert value > schedule.factor(step - 1, total)
    if step and step > warmup and name != "one_cycle":
        assert value <= schedule.factor(step - 1, total) + 1e-12


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 100))
def test_a_constant_schedule_does_not_know_its_end(step: int, total: int, other: int, warmup: int) -> None:
    schedule = Schedule(warmup_steps=warmup)
    assert schedule.factor(step, total) == schedule.factor(step, other)


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_schedule_that_ended_says_so(name: ScheduleName) -> None:
    schedule = Schedule(name)
    with pytest.raises(ValueError, match=r"step 10 is not in 0\.\.9"):
        schedule.factor(10, 10)


@pytest.mark.parametrize(
    "settings_, says",
    [
        ({"name": "step"}, "expected one of constant, cosine, one_cycle, poly"),
        ({"warmup_steps": -1}, "warmup_steps -1"),
        ({"floor": 1.5}, "floor 1.5"),
        ({"peak": -0.1}, "peak -0.1"),
        ({"power": 0}, "power 0"),
        ({"start_divisor": 0.5}, "start_divisor 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings_: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Schedule(**settings_)
    with pytest.raises(ValueError, match="step -1"):
        Schedule().factor(-1, 5)


def test_it_loads_no_torch() -> None:
    code = "import sys, ablate.depth.schedules; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
