"""What the course of a training says about the epoch that is reported."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.report.flags import Course, flags
from ablate.report.markdown import render_markdown
from ablate.report.summary import summarise
from ablate.results.open import open_results
from ablate.results.records import State
from ablate.task import Metric

FALLING = ((1, 0.4), (2, 0.3), (3, 0.2))
DONE = Course(State.COMPLETE, False, FALLING, selected=3, last=3, planned=3, metric="AbsRel")


def only(course: Course) -> str:
    (sentence,) = flags(course)
    return sentence


def test_a_best_last_epoch_with_a_falling_loss_is_not_saturated() -> None:
    assert only(DONE).startswith("not saturated: the best epoch is the last one trained (3)")
    assert "0.3 in epoch 2, 0.2 in epoch 3" in only(DONE)
    assert not flags(replace(DONE, losses=((1, 0.4), (2, 0.2), (3, 0.2)))), "no longer falling"


def test_loss_and_metrics_that_disagree_say_by_how_much() -> None:
    course = replace(DONE, losses=((1, 0.2), (2, 0.25), (3, 0.3)), selected=2)
    assert only(course) == (
        "loss and metrics disagree: the validation loss is lowest in epoch 1 (0.2), "
        "and 0.25 (25.0% more) in epoch 2, which AbsRel selects"
    )


def test_the_log_s_fifth_row() -> None:
    """Power went out in epoch 14 of 20; the best was epoch 6."""
    course = Course(State.PAUSED, False, ((6, 0.1), (13, 0.2)), selected=6, last=13, planned=20)
    assert only(course) == "not at its end: reported from epoch 6, the best of 13 epochs so far; 20 are planned"


def test_how_it_ended() -> None:
    flat = replace(DONE, losses=(), last=3, planned=9)
    assert only(replace(flat, diverged=True, state=State.FAILED)).startswith(
        "diverged after epoch 3 of 9: reported from"
    )
    assert "enters no mean" in only(replace(flat, diverged=True, state=State.FAILED))
    assert only(replace(flat, patience=2)) == (
        "stopped early after epoch 3 of 9: 2 epochs in a row without a better AbsRel"
    )
    assert only(replace(flat, max_steps=True)) == "ended in epoch 3 of 9 by train.max_steps"
    assert flags(replace(flat, last=None, selected=None)) == ()


LOSS = st.none() | st.floats(0, 10) | st.just(math.inf) | st.just(math.nan)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    last = draw(st.integers(1, 12))
    losses = [(epoch, draw(LOSS)) for epoch in range(1, last + 1)]
    return Course(
        state=draw(st.sampled_from([state for state in State if state is not State.QUEUED])),
        diverged=draw(st.booleans()),
        losses=draw(st.permutations(losses)),
        selected=draw(st.none() | st.integers(1, last)),
        last=last,
        planned=draw(st.none() | st.integers(last, last + 5)),
        patience=draw(st.none() | st.integers(1, 3)),
        max_steps=draw(st.booleans()),
    )


@given(courses())
def test_flags_say_what_is_so_and_nothing_else(course: Course) -> None:
    said = flags(course)
    assert flags(replace(course, losses=tuple(sorted(course.losses)))) == said, "the order of the epochs is no matter"
    finite = {epoch: loss for epoch, loss in course.losses if loss is not None and math.isfinite(loss)}
    worse = course.selected in finite and finite[course.selected] > min(finite.values())
    assert any(one.startswith("loss and metrics disagree") for one in said) == worse
    unsaturated = any(one.startswith("not saturated") for one in said)
    if unsaturated:
        assert course.selected == course.last == max(finite) and course.state is State.COMPLETE
        assert finite[course.last] < finite[sorted(finite)[-2]]
    at_its_end = course.planned in (None, course.last)
    ends = [one for one in said if one.startswith(("diverged", "not at its end", "ended", "stopped early"))]
    assert len(ends) <= 1 and not (at_its_end and ends)
    if course.diverged and not at_its_end:
        assert ends[0].startswith("diverged")


@pytest.fixture
def work(tmp_path: Path) -> Any:
    """The run writer of tests/results; test folders are no packages, so it is loaded by its path."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    return module.Workplace(tmp_path)


def test_a_report_says_which_epoch_of_how_many(work: Any) -> None:
    """An interrupted run and one that diverged, through a real database; an epoch that was computed again counts once."""
    row5 = work.run("row5", train={"epochs": 20}, eval={"select": {"metric": "abs_rel", "resolution": "reduced"}})
    row5.train(13, best=6, complete=False)
    row5.outcome("paused", "signal", "stopped by SIGTERM")
    lost = work.run("lost", train={"epochs": 4})
    lost.train(2, best=1, complete=False)
    lost.outcome("failed", "diverged", "the loss is nan in epoch 3, step 1")
    work.study("one", [row5, lost])
    with open_results(work.db, work.runs_dir) as results:
        text = render_markdown(summarise(results, "one", (Metric("abs_rel", "AbsRel", "min"),)))
        assert [epoch for epoch, _ in results.validation_losses([row5.run_id])[row5.run_id, "full"]] == [*range(1, 14)]
    lines = [line for line in text.splitlines() if line.startswith(f"| {row5.paths.name}") and " 6/13 " in line]
    assert len(lines) == 2 and all("paused (signal) 13/20" in line for line in lines), "full and reduced"
    assert "not at its end: reported from epoch 6, the best of 13 epochs so far; 20 are planned" in text
    assert "failed (diverged) 2/4" in text and "the loss is nan in epoch 3, step 1" in text
    assert "diverged after epoch 2 of 4: reported from epoch 1, the best before that, and it enters no mean" in text
