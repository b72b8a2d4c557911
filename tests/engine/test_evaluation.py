"""A study of one cell, made in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.engine import plan as planning
from ablate.engine.evaluation import Asked, plan_evaluation
from ablate.engine.launch import StudyPlan, record_study
from ablate.engine.plan import Action
from ablate.engine.tasks import find_task
from ablate.errors import StudyError
from ablate.runs.paths import RunsDir


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., StudyPlan]:
    def plan(width: int = 3, name: str | None = None, *overrides: str, **base: Any) -> StudyPlan:
        asked = Asked("rows", base, {"model.width": width}, {"model.width": "wide"}, overrides, name)
        return plan_evaluation(asked, find_task("toy"), RunsDir(tmp_path / "runs"))

    return plan


def made(plan: StudyPlan, runs: RunsDir) -> None:
    (item,) = plan.chosen
    planning.create(item, runs, plan.task, planning.run_config(item.cell.config, ["ablate", "eval"], {}))


def test_it_trains_nothing_and_writes_nothing(planned: Callable[..., StudyPlan], tmp_path: Path) -> None:
    (item,) = planned().chosen
    assert item.cell.config.train.epochs == 0
    assert item.action is Action.NEW
    assert item.cell.settings == {"model.width": "wide"}
    assert list(tmp_path.iterdir()) == []
    assert json.loads(planned().study.source.text)["base"]["train"] == {"epochs": 0}


def test_a_run_has_the_name_that_it_was_first_given(planned: Callable[..., StudyPlan], tmp_path: Path) -> None:
    runs = RunsDir(tmp_path / "runs")
    named = planned(3, "The authors' / DPT")
    (item,) = named.chosen
    assert item.paths.name == f"the-authors-dpt-{item.identity.run_id}" == item.identity.name
    made(named, runs)
    for later in (planned(3), planned(3, "other")):
        assert later.chosen[0].paths == item.paths
    assert planned(4).chosen[0].paths != item.paths


def test_rows_gather_in_the_study(planned: Callable[..., StudyPlan], tmp_path: Path) -> None:
    runs = RunsDir(tmp_path / "runs")
    runs.studies.mkdir(parents=True)
    for width in (3, 4, 3):
        record_study(planned(width), runs)
    stored = json.loads(runs.study("rows").read_text())
    assert [cell["current"] for cell in stored["cells"]] == [True, True]
    assert len({cell["run_id"] for cell in stored["cells"]}) == 2


def test_an_override_is_checked_as_in_a_study(planned: Callable[..., StudyPlan]) -> None:
    assert planned(3, None, "train.lr=1e-2").chosen[0].cell.config.train.lr == 1e-2
    with pytest.raises(StudyError, match=r"--set train\.lrr=1"):
        planned(3, None, "train.lrr=1")
