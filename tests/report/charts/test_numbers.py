"""The numbers of charts, worked out by hand, apart from any picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.evaluated import Breakdown, Column
from ablate.report.charts.chart import LONGEST, clean, labels
from ablate.report.charts.gather import breakdown_of, worst_images
from ablate.report.charts.images import worst_rows
from ablate.report.charts.numbers import (
    COSTS,
    MOST_ARMS,
    by_range,
    cast,
    is_logarithmic,
    pareto,
    seed_values,
    value_name,
)
from ablate.report.judgement import Arm
from ablate.report.stats.seeds import SeedSummary, failure_rate
from ablate.task import Metric


def arm(name: str, mean: float | None, **costs: float | None) -> Arm:
    scores = {"abs_rel": SeedSummary(mean, 0.01, 3, 3)}
    return Arm(name, {}, (), scores, failure_rate(0, 3), {**dict.fromkeys(COSTS), **costs}, None)


def test_the_front_is_what_no_other_arm_beats_in_both_numbers(make_study: Any) -> None:
    judgement = make_study().summary.judgement
    arms = (
        arm("slow and good", 0.1, images_per_second=1.0),
        arm("fast and bad", 0.3, images_per_second=5.0),
        arm("between", 0.2, images_per_second=3.0),
        arm("beaten", 0.25, images_per_second=2.0),
        arm("as fast, worse", 0.31, images_per_second=5.0),
        arm("unknown speed", 0.01, images_per_second=None),
        arm("failed", None, images_per_second=9.0),
    )
    points = pareto(replace(judgement, arms=arms), "images_per_second")
    assert [one.arm for one in points if one.front] == ["slow and good", "between", "fast and bad"]
    assert [one.arm for one in points if not one.front] == ["beaten", "as fast, worse"]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12), st.sampled_from(list(COSTS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_front_is_never_empty_and_nothing_on_it_is_beaten(
    make_study: Any, pairs: list[tuple[int, int]], cost: str
) -> None:
    judgement = make_study(arms=1, seeds=1).summary.judgement
    arms = tuple(arm(f"a{n}", y / 10, **{cost: float(x)}) for n, (x, y) in enumerate(pairs))
    points = pareto(replace(judgement, arms=arms), cost)
    front = [one for one in points if one.front]
    assert front
    sign = -1 if COSTS[cost][1] == "max" else 1
    for one in points:
        beaten = any(
            sign * other.x <= sign * one.x and other.y <= one.y and (other.x, other.y) != (one.x, one.y)
            for other in points
        )
        assert one.front != beaten


def test_ranges_are_means_over_the_runs_of_an_arm(make_study: Any) -> None:
    made = make_study(arms=2, seeds=2)
    drawn = cast(made.summary, made.series)
    columns = (Column("pixels", "pixels"), Column("abs_rel", "AbsRel"))

    def of(near: float, far: float | None) -> Breakdown:
        rows = (
            {"low": 0.0, "high": 10.0, "pixels": 5, "abs_rel": near},
            {"low": 10.0, "high": 20.0, "pixels": 0, "abs_rel": far},
        )
        return Breakdown("depth", "m", columns, rows)

    other = Breakdown("depth", "m", columns, of(0, 0).rows[:1])
    found = by_range(drawn, {"r000s0": of(0.1, None), "r000s1": of(0.3, 0.5), "r001s0": other})
    values = {(one.arm, one.low, one.column): one.value for one in found}
    name = drawn.arms[0]
    assert values[name, 0, "abs_rel"] == pytest.approx(0.2)
    assert values[name, 10, "abs_rel"] == 0.5
    assert {one.arm for one in found} == {name}, "other ranges cannot be averaged with these"


def test_only_some_arms_have_a_colour_of_their_own_and_they_are_the_best(make_study: Any) -> None:
    made = make_study(arms=30, seeds=1)
    drawn = cast(made.summary, made.series)
    assert len(drawn.arms) == MOST_ARMS
    assert len(drawn.others) == 30 - MOST_ARMS
    values = seed_values(made.summary, made.series)
    of = {member.arm: values[member.run_id] for member in drawn.members}
    baselines = {one.name for one in made.summary.judgement.arms if one.baseline is None}
    if len(baselines) < MOST_ARMS:
        assert max(of[one] for one in drawn.arms) <= min(of[one] for one in drawn.others)


def test_a_run_without_a_judgement_is_an_arm_of_its_own(make_study: Any) -> None:
    made = make_study(arms=2, seeds=2, judged=False)
    drawn = cast(made.summary, made.series)
    assert list(drawn.arms) == [run.name for run in made.summary.runs]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 4.9], False),
        ([1, 5], True),
        ([0, 5], False),
        ([-1, 5], False),
        ([], False),
        ([1, None, 7, float("inf")], True),
    ],
)
def test_an_axis_is_logarithmic_where_a_linear_one_would_press_things_together(values: Any, expected: bool) -> None:
    assert is_logarithmic(values) is expected


def test_the_worst_images_come_first_and_better_can_be_either_way() -> None:
    scores = {"a": 0.1, "b": 0.9, "c": 0.9, "d": 0.5}
    assert [one.image for one in worst_images(scores, Metric("abs_rel", "AbsRel", "min"), 3)] == ["b", "c", "d"]
    assert [one.image for one in worst_images(scores, Metric("d1", "d1", "max"), 2)] == ["a", "d"]


def test_images_that_most_runs_have_trouble_with_are_first(make_study: Any) -> None:
    made = make_study(arms=2, seeds=1)
    worst = {
        "r000s0": worst_images({"x": 0.9, "y": 0.8}, made.series.metric),
        "r001s0": worst_images({"y": 0.1, "z": 0.2}, made.series.metric),
    }
    series = replace(made.series, worst=worst)
    rows = worst_rows(cast(made.summary, series), series)
    assert [row["image"] for row in rows] == ["y", "y", "x", "z"]


@pytest.mark.parametrize(
    "body",
    [
        None, {}, {"columns": [], "rows": []}, {"by": "x", "unit": "", "columns": "abc", "rows": [1]},
        {"by": "x", "unit": "", "columns": [{"key": "a", "header": "A", "unit": ""}], "rows": [{"low": 0, "high": "1", "a": 1}]},
        {"by": "x", "unit": "", "columns": [{"key": "a", "header": "A", "unit": ""}], "rows": [{"low": None, "high": 1, "a": 1}]},
        {"by": "x", "unit": "", "columns": [{"key": "datum['a']", "header": "A", "unit": ""}], "rows": [{"low": 0, "high": 1}]},
    ],
)  # fmt: skip
def test_what_is_no_breakdown_is_none(body: Any) -> None:
    assert breakdown_of(body) is None


@given(st.lists(st.text(max_size=100), max_size=20))
def test_labels_are_one_clean_line_and_stay_apart(names: list[str]) -> None:
    found = labels(names)
    assert set(found) == set(names)
    assert len(set(found.values())) == len(set(names))
    for label in found.values():
        assert label and len(label) <= LONGEST
        assert label.isprintable() or all(char.isprintable() or ord(char) > 127 for char in label)


def test_control_and_direction_characters_are_gone() -> None:
    assert clean("a\x00b\u202ec\n d\ud800") == "a b c d"


def test_values_read_as_people_write_them() -> None:
    assert value_name(('"performer"',)) == "performer"
    assert value_name(('"memory_compressed"', "2")) == "memory_compressed, 2"
    assert value_name(('"standard"', None)) == "standard"
    assert value_name((None,)) == "–"
    assert value_name(("[192, 640]",)) == "192x640"
