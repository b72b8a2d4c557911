"""`studies/<study>.json`: what was declared, and what earlier declarations held."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import RecordError
from ablate.study import Study, expand, identify
from ablate.study.record import StudyRecord, join, merge, record

Declare = Callable[..., StudyRecord]


@pytest.fixture
def declare(load: Callable[..., Study], tasks: Any) -> Declare:
    def declare(text: str, *overrides: str) -> StudyRecord:
        study = load(text, *overrides)
        task = tasks[study.task]
        return record(study, [(cell, identify(task, cell.config)) for cell in expand(study, task)], declared=1.5)

    return declare


def test_it_holds_what_reports_need(declare: Declare, study_text: str) -> None:
    found = json.loads(declare(study_text, "seeds=[4]").to_json())
    assert list(found) == [
        "v",
        "study",
        "task",
        "file",
        "text",
        "overrides",
        "select",
        "declared",
        "axes",
        "wandb",
        "cells",
        "compare",
        "metric",
    ]
    assert (found["v"], found["study"], found["task"], found["declared"]) == (1, "compressed", "depth", 1.5)
    assert found["text"] == study_text
    assert found["overrides"] == ["seeds=[4]"]
    assert found["select"] == {"metric": "abs_rel", "split": "val", "resolution": "reduced"}
    assert found["axes"] == ["model.attention", "model.compression", "train.lr"]
    assert found["wandb"] == {"mode": "disabled", "project": None, "entity": None, "log_every": 10}
    assert len(found["cells"]) == 7
    third, fifth = found["cells"][2], found["cells"][4]
    assert fifth == {
        "run_id": fifth["run_id"],
        "name": f"seed-4-x-{fifth['run_id']}",
        "position": 4,
        "settings": {"model.attention": "memory_compressed", "model.compression": 2, "train.lr": 1e-5},
        "seed": 4,
        "baseline": third["baseline"],
        "current": True,
        "notes": [],
        "unknown": [],
        "added": False,
    }
    assert third["baseline"] == found["cells"][1]["run_id"]


def test_it_reads_back(declare: Declare, study_text: str) -> None:
    one = declare(study_text)
    assert StudyRecord.from_json(one.to_json(), "s.json") == one
    lists = declare("grid: {data.resolution: [[64, 64], [64, 96]], model.weights: [null, ä.pt]}")
    assert StudyRecord.from_json(lists.to_json().encode(), "s.json") == lists


def test_two_paths_with_one_content_are_one_cell(declare: Declare) -> None:
    # The bare task gives the same digests for every configuration, so both files hold the same weights.
    found = declare("grid: {model.weights: [a.pt, b.pt], train.lr: [1e-4, 1e-5]}\nbaseline: {model.weights: b.pt}")
    assert [cell.position for cell in found.cells] == [0, 1]
    assert [cell.baseline for cell in found.cells] == [cell.run_id for cell in found.cells]


def test_merge_keeps_what_is_gone(declare: Declare) -> None:
    first = declare("grid: {train.lr: [1e-3, 1e-4]}")
    second = declare("grid: {train.lr: [1e-4, 1e-5]}")
    merged = merge(first, second)
    assert merge(None, first) == first
    assert [(cell.settings["train.lr"], cell.position, cell.current) for cell in merged.cells] == [
        (1e-4, 0, True),
        (1e-5, 1, True),
        (1e-3, 0, False),
    ]
    assert merged.text == second.text
    again = merge(merged, first)
    assert [(cell.settings["train.lr"], cell.current) for cell in again.cells] == [
        (1e-3, True),
        (1e-4, True),
        (1e-5, False),
    ]
    assert merge(again, first) == again


def test_damage_names_the_file_and_the_place(declare: Declare) -> None:
    whole = json.loads(declare("").to_json())
    broken = whole | {"cells": [whole["cells"][0] | {"seed": "0"}]}
    with pytest.raises(RecordError, match=r"^s\.json: damaged: cells\.0\.seed: "):
        StudyRecord.from_json(json.dumps(broken), "s.json")
    with pytest.raises(RecordError, match=r"^s\.json: damaged: extra: "):
        StudyRecord.from_json(json.dumps(whole | {"extra": 1}), "s.json")
    with pytest.raises(RecordError, match=r"^s\.json: has format 2, "):
        StudyRecord.from_json(json.dumps(whole | {"v": 2}), "s.json")


@given(st.data())
def test_any_damage_is_a_record_error(data: st.DataObject) -> None:
    text = replace(
        StudyRecord.from_json(
            '{"v":1,"study":"s","task":"toy","file":"f","text":"t","overrides":[],"select":{},"declared":1.0,'
            '"axes":["a"],"wandb":{"mode":null},"cells":[{"run_id":"r","name":"n","position":0,"settings":{},"seed":0,'
            '"baseline":null,"current":true}]}',
            "f",
        )
    ).to_json()
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where : where + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
    try:
        StudyRecord.from_json(bytes(content), "s.json")
    except RecordError as error:
        assert str(error).startswith("s.json: ")


def test_what_is_added_stays_whoever_declares_the_study_again(declare: Declare) -> None:
    base = "grid: {{model.attention: [standard]}}\nbase: {{train.lr: {}}}\n"
    declared = declare(base.format("1e-3"))
    added = declare("zip: {train.lr: [5e-1]}")
    joined = join(declared, added)
    assert (joined.text, joined.select) == (declared.text, declared.select), "what the file says is left alone"
    assert joined.axes == ("model.attention", "train.lr")
    assert [cell.added for cell in joined.cells] == [False, True]
    assert [cell.position for cell in joined.cells] == [0, 1]
    assert join(joined, added) == joined, "twice is once"
    edited = merge(joined, declare(base.format("2e-3")))
    assert [(cell.current, cell.added) for cell in edited.cells] == [(True, False), (False, False), (True, True)]
    assert edited.axes == ("model.attention", "train.lr")
    assert StudyRecord.from_json(edited.to_json(), "f") == edited


def test_the_first_one_added_makes_the_study(declare: Declare) -> None:
    added = declare("zip: {train.lr: [5e-1]}")
    assert join(None, added).cells == tuple(replace(cell, added=True) for cell in added.cells)
