"""`notes` and `unknown`: which cells they are about, what mistakes are answered with, and no new ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from ablate.errors import StudyError
from ablate.study import Cell, Study, expand, identify, json_schema
from ablate.study.record import StudyRecord, record
from ablate.study.remarks import is_unknown
from ablate.study.yaml import parse_document

GRID = "task: toy\ngrid:\n  knobs.a: [1, 2]\n  knobs.file: [x.pt, y.pt]\n"
REMARKS = """\
notes:
  - text: Of all.
  - {match: {knobs.a: 1}, text: "  Of a\\n  one. "}
  - {match: {knobs.a: 1, knobs.file: [x.pt]}, text: Of one cell.}
unknown:
  - {match: {knobs.a: 2}, settings: [knobs.b, seed]}
  - {match: {knobs.file: y.pt}, settings: [knobs.b, extra]}
"""


def test_all_that_match_count_in_the_order_of_the_file(cells: Callable[..., tuple[Cell, ...]]) -> None:
    found = cells(GRID + REMARKS)
    assert [cell.notes for cell in found] == [
        ("Of all.", "Of a one.", "Of one cell."),
        ("Of all.", "Of a one."),
        ("Of all.",),
        ("Of all.",),
    ]
    assert [cell.unknown for cell in found] == [
        (),
        ("knobs.b", "extra"),
        ("knobs.b", "seed"),
        ("knobs.b", "seed", "extra"),
    ]


def test_no_run_gets_another_id(cells: Callable[..., tuple[Cell, ...]], tasks: dict[str, Any]) -> None:
    with_, without = cells(GRID + REMARKS), cells(GRID)
    assert [identify(tasks["toy"], one.config) for one in with_] == [
        identify(tasks["toy"], one.config) for one in without
    ]


def test_an_overridden_setting_may_leave_a_note_without_cells(cells: Callable[..., tuple[Cell, ...]]) -> None:
    assert [cell.notes for cell in cells(GRID + REMARKS, "knobs.a=7", "knobs.file=null")] == [("Of all.",)]


def test_they_are_stored_and_read_back(load: Callable[..., Study], tasks: dict[str, Any]) -> None:
    study = load(GRID + REMARKS)
    pairs = [(cell, identify(tasks["toy"], cell.config)) for cell in expand(study, tasks["toy"])]
    stored = record(study, pairs, 1.0)
    again = StudyRecord.from_json(stored.to_json(), "s.json")
    assert again == stored
    assert [(cell.notes, cell.unknown) for cell in again.cells][:1] == [(pairs[0][0].notes, ())]


def test_a_group_is_unknown_with_all_that_is_in_it() -> None:
    assert is_unknown("eval.select.metric", ("eval.select",))
    assert is_unknown("seed", ("seed",))
    assert not is_unknown("eval.selection", ("eval.select",))
    assert not is_unknown("eval", ("eval.select",))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("notes: [x]", 6, "expected a mapping with `match` and `text`, found 'x'"),
        ("notes:\n  - {match: {knobs.a: 1}}", 7, "`text` is missing"),
        ("notes:\n  - {text: ''}", 7, "expected a note of at most 1000 characters"),
        ("notes:\n  - {txt: hello}", 7, "did you mean text?"),
        ("notes:\n  - {match: {knobs.a: 3}, text: hello}", 7, "no cell has the value 3"),
        ("unknown:\n  - {settings: knobs.b}", 7, "expected a list of settings, found 'knobs.b'"),
        ("unknown:\n  - {settings: []}", 7, "expected a list of settings"),
        ("unknown:\n  - {settings: [knob.b]}", 7, "did you mean knobs.b?"),
        ("unknown:\n  - {settings: [3]}", 7, "expected the name of a setting, found 3"),
        ("unknown:\n  - {match: {knobs.a: 1}}", 7, "`settings` is missing"),
    ],
)
def test_mistakes_are_named_with_their_place(
    refused: Callable[..., StudyError], text: str, line: int, words: str
) -> None:
    error = refused(GRID + text + "\n")
    assert words in str(error)
    assert error.line == line


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("notes: [{text: hello}, {match: {knobs.a: [1, 2], seed: 0}, text: x}]\nunknown:", True),
        ("unknown: [{settings: [knobs.b, extra, seed]}]", True),
        ("notes: [{text: ''}]", False),
        ("notes: {text: hello}", False),
        ("unknown: [{settings: [knobs.x]}]", False),
        ("unknown: [{settings: []}]", False),
    ],
)
def test_the_schema_agrees(toy_config: type[Any], text: str, good: bool) -> None:
    schema = json_schema({"toy": toy_config})
    document = parse_document(f"study: test\ntask: toy\n{text}\n", "study.yaml").data
    assert jsonschema.Draft202012Validator(schema).is_valid(document) is good
