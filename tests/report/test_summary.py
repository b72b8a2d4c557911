"""Numbers from real run directories, through a real database."""

import importlib.util
import sys
from pathlib import Path

import pytest

from ablate.errors import UsageError
from ablate.report.summary import summarise
from ablate.results.open import open_results
from ablate.task import Metric

METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"))


@pytest.fixture
def work(tmp_path):
    """The run writer of tests/results; test folders are no packages, so it is loaded by its path."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    return module.Workplace(tmp_path)


def summaries(work, study=None):
    with open_results(work.db, work.runs_dir) as results:
        return summarise(results, study, METRICS)


def test_all_numbers_of_a_row_come_from_the_selected_epoch(work):
    run = work.run("std")
    run.train(5, best=3)
    work.study("one", [run])
    (study,) = summaries(work, "one")
    (row,) = study.runs
    assert (row.selected_epoch, row.last_epoch, row.planned_epochs) == (3, 5, 5)
    assert {(s.checkpoint, s.epoch, s.split, s.resolution, s.images) for s in row.scores} == {
        (checkpoint, epoch, "test", resolution, 3)
        for checkpoint, epoch in (("selected", 3), ("last", 5))
        for resolution in ("full", "reduced")
    }
    assert row.score("selected", "full").metrics["d1"] == pytest.approx(0.6)
    assert study.axes == ("train.lr",) and study.select.metric == "abs_rel"


def test_validation_stands_in_until_a_run_is_tested(work):
    run = work.run("std")
    run.train(4, best=2, complete=False)
    work.study("one", [run])
    (study,) = summaries(work, "one")
    assert {s.split for s in study.runs[0].scores} == {"val"}


def test_a_run_that_selected_nothing_is_judged_by_the_study(work):
    run = work.run("std")
    run.attempt()
    for epoch, value in ((1, 0.5), (2, 0.25), (3, 0.25), (4, 0.75)):
        run.evaluation(epoch, 0, marks={"d1": 0.1, "abs_rel": value})
    work.study("one", [run])
    (study,) = summaries(work, "one")
    assert study.runs[0].selected_epoch == 2
    assert study.runs[0].score("selected", "reduced").metrics["abs_rel"] == 0.25
    assert study.runs[0].last_epoch == 4


def test_every_cell_has_a_row_in_the_order_of_the_study(work):
    a, b, c = work.run("zz"), work.run("aa"), work.run("mm")
    a.train(1)
    b.train(1, complete=False)
    b.outcome("failed", "diverged", "loss is nan")
    work.study("one", [a, b, c])
    (study,) = summaries(work, "one")
    assert [(r.name, str(r.status), r.reason) for r in study.runs] == [
        (a.paths.name, "complete", None), (b.paths.name, "failed", "diverged"), (c.paths.name, "queued", None)
    ]  # fmt: skip
    assert study.runs[1].baseline == a.run_id and study.runs[1].settings == {"train.lr": 0.1}


def test_all_studies_and_the_rest(work):
    a, b = work.run("a"), work.run("b")
    a.train(1)
    b.train(2)
    work.study("one", [a])
    assert [(s.study, [r.run_id for r in s.runs]) for s in summaries(work)] == [
        ("one", [a.run_id]), (None, [b.run_id])
    ]  # fmt: skip


def test_cells_of_earlier_versions_are_counted(work):
    a, b = work.run("a"), work.run("b")
    a.train(1)
    b.train(1)
    work.study("one", [a, b], gone=(b,))
    (study,) = summaries(work, "one")
    assert [r.run_id for r in study.runs] == [a.run_id]
    assert study.notes == ("1 run of earlier versions of this study not shown",)


def test_an_unknown_study_is_named_with_those_that_exist(work):
    work.study("one", [work.run()])
    with pytest.raises(UsageError, match="no study called 'two' has been run here; known: one"):
        summaries(work, "two")
