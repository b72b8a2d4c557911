"""What counts as a change between two attempts, and which attempts are compared."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.engine import drift
from ablate.runs.journal import Journal

ATTEMPT: dict[str, Any] = {
    "host": "a", "pid": 1, "device": "cuda:0", "threads": 2, "processor": "AMD EPYC", "command": "ablate run",
    "versions": {"python": "3.11.7", "torch": "2.14.0", "duckdb": "2.0.0"},
    "git": {"commit": "0123456789abcdef", "dirty": False},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"host": "b", "pid": 2, "command": "ablate resume"}, []),
        ({"device": "cuda:1"}, []),
        ({"device": "cpu"}, ["device cuda → cpu"]),
        ({"threads": 3}, ["threads 2 → 3"]),
        ({"processor": "Apple M4"}, ["processor AMD EPYC → Apple M4"]),
        ({"versions": {**ATTEMPT["versions"], "duckdb": "2.0.1"}}, []),
        ({"versions": {**ATTEMPT["versions"], "torch": "2.14.1"}}, ["torch 2.14.0 → 2.14.1"]),
        ({"versions": {**ATTEMPT["versions"], "timm": "1.0.31"}}, ["timm none → 1.0.31"]),
        ({"git": {"commit": "0123456789abcdef", "dirty": True}}, ["commit 0123456789 → 0123456789 with edits"]),
        ({"git": {"commit": "f" * 40, "dirty": False}}, ["commit 0123456789 → ffffffffff"]),
        ({"git": None}, ["commit 0123456789 → none"]),
    ],
)
def test_what_may_change_numbers_is_named(change: dict[str, Any], said: list[str]) -> None:
    assert list(drift.differences(ATTEMPT, ATTEMPT | change)) == said


def test_the_attempt_that_saved_the_checkpoint_is_what_counts(make_run: Any) -> None:
    paths = make_run()
    facts = {"splits": {"train": {"images": 96}, "val": {"images": 12}}}
    for number, torch in enumerate(("2.14.0", "2.14.1"), start=1):
        with Journal(paths.journal) as journal:
            journal.attempt = number
            journal.append("attempt", 0, 0, ATTEMPT | {"versions": {"torch": torch}})
            journal.append("event", 0, 0, {"name": "checked", "facts": facts, "notes": []})
    now = ATTEMPT | {"versions": {"torch": "2.14.1"}}
    assert drift.history(paths, None).changes(now, facts) == [], "from the first step: nothing is mixed"
    assert drift.history(paths, 4).changes(now, facts) == []
    first = drift.history(paths, 2)
    assert first.changes(now, facts) == ["torch 2.14.0 → 2.14.1"]
    fewer = {"splits": {"train": {"images": 95}, "val": {"images": 12}}}
    assert first.changes(now, fewer) == ["torch 2.14.0 → 2.14.1", "data: splits.train.images 96 → 95"]
    assert first.threads == 2


def test_only_the_newest_attempt_is_warned_about(make_run: Any) -> None:
    paths = make_run()
    assert drift.newest_change(paths) is None
    with Journal(paths.journal) as journal:
        journal.attempt = 2
        journal.append("event", 0, 0, drift.event(1, ["torch 2.14.0 → 2.14.1"]))
    assert drift.newest_change(paths) == (
        "torch 2.14.0 → 2.14.1 since attempt 1; bit-identity is not promised across this"
    )
    with Journal(paths.journal) as journal:
        journal.attempt = 3
        journal.append("attempt", 0, 0, ATTEMPT)
    assert drift.newest_change(paths) is None
