"""What a study says of its cells, in reports: the whole way from a run directory to the text."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.report.render import render
from ablate.report.summary import summarise
from ablate.results.open import open_results
from ablate.task import Metric

METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"))


@pytest.fixture
def text(tmp_path: Path) -> Callable[..., str]:
    """The report of a study of two runs, given what is said of each, in a format."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    work = module.Workplace(tmp_path)

    def text(form: str, *said: dict[str, Any]) -> str:
        runs = [work.run(name, f"{name * 4}") for name in ("aa", "bb")]
        for run in runs:
            run.train(1)
        work.study("one", runs)
        record = work.runs_dir / "studies" / "one.json"
        content = json.loads(record.read_text())
        for cell, remarks in zip(content["cells"], said, strict=True):
            cell |= remarks
        record.write_text(json.dumps(content))
        with open_results(work.db, work.runs_dir) as results:
            return render(summarise(results, "one", METRICS), form)

    return text


def test_what_is_said_of_all_is_said_once(text: Callable[..., str]) -> None:
    report = text("md", {"notes": ["of both", "of one"]}, {"notes": ["of both"]})
    lines = report.splitlines()
    assert lines.count("- of both") == 1
    assert "- aa-aaaaaaaa: of one" in lines
    assert not any("bb-bbbbbbbb: of" in line for line in lines)


def test_unknown_stands_in_place_of_the_value(text: Callable[..., str]) -> None:
    report = text("md", {"unknown": ["train.lr", "train.flip"]}, {})
    lines = {name: line for line in report.splitlines() for name in ("aa-", "bb-") if line.startswith(f"| {name}")}
    assert "unknown" in lines["aa-"]
    assert "unknown" not in lines["bb-"]
    assert "- aa-aaaaaaaa: not stated: train.flip" in report.splitlines()


SAID: tuple[dict[str, Any], ...] = ({"unknown": ["train.lr"], "notes": ["x"]}, {})


def test_spreadsheets_are_told_too(text: Callable[..., str]) -> None:
    header, *lines = (line.split(",") for line in text("csv", *SAID).splitlines())
    shown = {(line[header.index("run")], line[header.index("train.lr")]) for line in lines}
    assert {name for name, value in shown if value == "unknown"} == {"aa-aaaaaaaa"}


def test_programs_are_told_too(text: Callable[..., str]) -> None:
    first, second = json.loads(text("json", *SAID))["studies"][0]["runs"]
    assert (first["unknown"], first["notes"]) == (["train.lr"], ["x"])
    assert (second["unknown"], second["notes"]) == ([], [])
