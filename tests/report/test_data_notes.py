"""Runs on different data, from their journals to the report."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.report.data_notes import short_prints
from ablate.report.render import render
from ablate.report.summary import summarise
from ablate.results.open import open_results
from ablate.task import Metric

METRICS = (Metric("abs_rel", "AbsRel", "min"),)
A, B = "a" * 64, "b" * 64


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


def trained(work: Any, name: str, *prints: tuple[str, str] | None) -> Any:
    """A run whose attempts found data of these fingerprints."""
    run = work.run(name)
    for found in prints:
        run.attempt()
        facts = {"splits": {}} if found is None else {"fingerprint": found[0], "contents": found[1]}
        run.event("checked", facts=facts, notes=[])
    run.train(2)
    return run


def report(work: Any, form: str, *runs: Any) -> str:
    work.study("one", list(runs))
    with open_results(work.db, work.runs_dir) as results:
        return render(summarise(results, "one", METRICS), form)


def test_runs_on_different_data_are_marked_in_every_format(work: Any) -> None:
    runs = [trained(work, "first", (A, "1")), trained(work, "second", (A, "1")), trained(work, "third", (B, "2"))]
    text = report(work, "md", *runs)
    assert "not of the same data" in text and "data aaaaaaaa: first" in text and "data bbbbbbbb: third" in text
    (header,) = {line for line in text.splitlines() if line.startswith("| Run")}
    assert "Data" in header
    with open_results(work.db, work.runs_dir) as results:
        summaries = summarise(results, "one", METRICS)
    rows = list(csv.DictReader(io.StringIO(render(summaries, "csv"))))
    assert {row["run"][:5]: row["data"] for row in rows} == {
        "first": "aaaaaaaa",
        "secon": "aaaaaaaa",
        "third": "bbbbbbbb",
    }
    (study,) = json.loads(render(summaries, "json"))["studies"]
    assert [run["data"] for run in study["runs"]] == ["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"]
    assert any("not of the same data" in note for note in study["notes"])


def test_the_newest_attempt_counts_and_the_same_data_is_not_mentioned(work: Any) -> None:
    text = report(work, "md", trained(work, "first", (B, "2"), (A, "1")), trained(work, "second", (A, "1")))
    assert "same data" not in text and "Data" not in text


def test_files_that_changed_under_the_same_name_and_size_are_marked(work: Any) -> None:
    text = report(work, "md", trained(work, "first", (A, "1" * 32)), trained(work, "second", (A, "2" * 32)))
    assert "data aaaaaaaa+11111111: first" in text and "data aaaaaaaa+22222222: second" in text


def test_a_run_from_before_there_were_fingerprints_is_marked(work: Any) -> None:
    text = report(work, "md", trained(work, "first", (A, "1")), trained(work, "second", None))
    assert "data not recorded: second" in text


def test_a_run_that_has_not_been_scored_is_not_compared(work: Any) -> None:
    waiting = work.run("second")
    waiting.attempt()
    text = report(work, "md", trained(work, "first", (A, "1")), waiting)
    assert "same data" not in text


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=3), st.tuples(st.sampled_from([A, B]), st.sampled_from("12")))
)
def test_short_prints_are_equal_for_equal_data_only(prints: dict[str, tuple[str, str]]) -> None:
    short = short_prints(prints)
    for one in prints:
        for other in prints:
            assert (short[one] == short[other]) is (prints[one] == prints[other])
