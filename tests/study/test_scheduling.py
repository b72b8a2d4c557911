"""`priority`, `defer` and `resources`: which cells they are about, what mistakes are answered with, and no new ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import StudyError
from ablate.study import Study, expand, identify, json_schema
from ablate.study.scheduling import Scheduling, parse_size
from ablate.study.yaml import parse_document

GRID = "task: toy\ngrid:\n  knobs.a: [1, 2]\n  knobs.label: [plain, odd]\nseeds: [0, 1]\n"


@pytest.fixture
def scheduled(load: Callable[..., Study], tasks: dict[str, Any]) -> Callable[..., list[tuple[Any, ...]]]:
    """(a, label, seed, priority, reason to defer, memory) of every cell."""

    def scheduled(text: str) -> list[tuple[Any, ...]]:
        study = load(text)
        says = Scheduling(study)
        return [
            (*cell.settings.values(), cell.seed, says.priority(cell), says.deferred(cell), says.memory(cell))
            for cell in expand(study, tasks[study.task])
        ]

    return scheduled


def test_the_first_entry_that_matches_counts(scheduled: Callable[..., list[tuple[Any, ...]]]) -> None:
    cells = scheduled(
        GRID
        + "priority:\n  - {match: {knobs.a: 2, knobs.label: odd}, value: 3}\n  - {match: {knobs: {a: 2}}, value: 1.5}\n"
        "defer:\n  - {match: {seed: [1]}, reason: 'one seed\n    first'}\n  - {match: {knobs.d: 0.5, knobs.label: [odd]}, reason: odd}\n"
        "resources:\n  - {match: {knobs.a: [2]}, memory: 2GiB}\n  - {memory: 500MB}\n"
    )
    assert {cell[:2]: cell[3] for cell in cells} == {(1, "plain"): 0, (1, "odd"): 0, (2, "plain"): 1.5, (2, "odd"): 3}
    assert {cell[1:3]: cell[4] for cell in cells} == {
        ("plain", 0): None,
        ("odd", 0): "odd",
        ("plain", 1): "one seed first",
        ("odd", 1): "one seed first",
    }
    assert {cell[0]: cell[5] for cell in cells} == {1: 500_000_000, 2: 2**31}


def test_nothing_said_and_empty_sections(scheduled: Callable[..., list[tuple[Any, ...]]]) -> None:
    for more in ("", "priority:\ndefer:\nresources:\n", "priority: []\ndefer: []\nresources: []\n"):
        assert {cell[3:] for cell in scheduled(GRID + more)} == {(0, None, 0)}
    assert {cell[3:] for cell in scheduled(GRID + "resources: {memory: 1kB}")} == {(0, None, 1000)}


def test_ids_do_not_depend_on_it(load: Callable[..., Study], tasks: dict[str, Any]) -> None:
    more = "priority: [{match: {knobs.a: 1}, value: 1}]\ndefer: [{reason: later}]\nresources: {memory: 1GB}\n"
    ids = [
        [identify(tasks["toy"], cell.config).run_id for cell in expand(load(text), tasks["toy"])]
        for text in (GRID, GRID + more)
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("text", "line", "words"),  # `study: test` and GRID are six lines
    [
        ("priority: 3", 7, "expected a list of entries, found 3"),
        ("priority: {value: 3}", 7, "expected a list of entries"),
        ("priority: [3]", 7, "expected a mapping with `match` and `value`"),
        ("priority:\n  - {match: {knobs.a: 1}}", 8, "`value` is missing"),
        ("priority:\n  - {match: {knobs.a: 1}, value: high}", 8, "expected a number, found 'high'"),
        ("priority:\n  - {match: {knobs.a: 1}, value: true}", 8, "expected a number"),
        ("priority:\n  - {match: {knobs.a: 1}, vale: 1}", 8, "did you mean value?"),
        ("priority:\n  - {knobs.a: 1, value: 1}", 8, "settings go under `match:`"),
        ("priority:\n  - match: {knobs.b: 1}\n    value: .inf", 9, "finite"),
        ("priority:\n  - match: {knob.a: 1}\n    value: 1", 8, "there is no such setting"),
        ("defer:\n  - match: {knobs.label: od}\n    reason: x", 8, "did you mean odd?"),
        ("defer:\n  - match: {knobs.a: x}\n    reason: x", 8, "expected a whole number"),
        ("defer:\n  - match: {}\n    reason: x", 8, "the match is empty"),
        ("defer:\n  - match: {seed: 2}\n    reason: x", 8, "no cell has the seed 2"),
        ("defer:\n  - match: {seed: []}\n    reason: x", 8, "no cell has the seed []"),
        ("defer:\n  - match: [1]\n    reason: x", 8, "expected a mapping of settings"),
        ("defer:\n  - reason: ' '", 8, "expected a reason"),
        ("defer:\n  - reason: 3", 8, "expected a reason"),
        ("resources: {memory: 6}", 7, "write 6GB"),
        ("resources: {memory: 6Gb}", 7, "expected an amount of memory, such as '6GB'"),
        ("resources: {memory: -6GB}", 7, "expected an amount of memory"),
        ("resources: {gpu: 1}", 7, "there is no such key"),
        ("resources:\n  - {match: {knobs.a: 1}, memory: 0GB}", 8, "expected an amount of memory"),
    ],
)
def test_mistakes_are_named_with_their_place(
    refused: Callable[..., StudyError], text: str, line: int, words: str
) -> None:
    error = refused(GRID + text + "\n")
    assert words in str(error)
    assert error.line == line


def test_a_bad_entry_is_one_error_among_others(refused: Callable[..., StudyError]) -> None:
    assert "and 1 more problem" in str(refused(GRID + "defer: [{reason: 3}, {reason: 4}]"))


@given(st.integers(1, 10**9), st.sampled_from(["B", "kB", "MB", "GB", "TB", "kiB", "MiB", "GiB", "TiB"]))
def test_sizes(number: int, unit: str) -> None:
    base = 1024 if "i" in unit else 1000
    assert parse_size(f"{number}{unit}") == number * base ** ("B kMGT".replace(" ", "").index(unit[0]))
    assert parse_size(f" {number} {unit} ") == parse_size(f"{number}{unit}")


@given(st.text())
def test_any_other_text_is_no_size(text: str) -> None:
    try:
        assert parse_size(text) > 0
    except ValueError as error:
        assert "6GB" in str(error)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("priority: [{match: {knobs.a: [1, 2], knobs: {b: 1}}, value: -1.5}, {value: 2}]", True),
        ("defer: [{match: {seed: [0, 1]}, reason: later}]", True),
        ("defer: [{match: {seed: 0}, reason: later}]\npriority:\nresources:", True),
        ("resources: {memory: 6GB}", True),
        ("resources: [{match: {knobs.a: 1}, memory: 1.5GiB}]", True),
        ("priority: [{match: {knobs.x: 1}, value: 1}]", False),
        ("priority: [{match: {knobs.a: 1}}]", False),
        ("defer: [{match: {}, reason: later}]", False),
        ("defer: [{reason: ''}]", False),
        ("exclude: [{seed: 1}]", False),
        ("resources: {memory: 6}", False),
        ("resources: {memory: 6GBs}", False),
    ],
)
def test_the_schema_agrees(toy_config: type[Any], text: str, good: bool) -> None:
    schema = json_schema({"toy": toy_config})
    jsonschema.Draft202012Validator.check_schema(schema)
    document = parse_document(f"study: test\ntask: toy\n{text}\n", "study.yaml").data
    assert jsonschema.Draft202012Validator(schema).is_valid(document) is good
