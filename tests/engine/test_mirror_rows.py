"""What wandb is told of a journal, and that it does not depend on how often the run was interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ablate.engine.mirror_rows import Row, Rows
from ablate.runs.journal import Record
from ablate.task import Metric

METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"))
STEPS = 4


def loss_of(step: int) -> float:
    return 1.0 / step


def epoch_records(epoch: int, first: int = 0, stop: int = STEPS) -> list[tuple[str, int, dict[str, Any]]]:
    """What a run writes from a step of an epoch on; up to its end, or up to a step at which it is killed."""
    steps = [(epoch - 1) * STEPS + step + 1 for step in range(first, stop)]
    found: list[tuple[str, int, dict[str, Any]]] = []
    if steps:
        body = {"name": "scalars", "steps": steps, "loss": [loss_of(step) for step in steps], "lr": [0.1] * len(steps)}
        found.append(("event", epoch, body))
    if stop == STEPS:
        found.append(
            ("epoch", epoch, {"train_loss": 2.0 / epoch, "lr": 0.1, "images": 8, "order": "x", "seconds": 1.0})
        )
        metrics = {"d1": 0.5, "abs_rel": 1.0 / epoch, "odd": None}
        body = {"split": "val", "resolution": "full", "metrics": metrics, "loss": 0.5}
        found += [("evaluation", epoch, body), ("event", epoch, {"name": "selected", "epoch": epoch, "value": 0.1})]
    return found


def records(written: Iterable[tuple[Any, int, dict[str, Any]]]) -> list[Record]:
    return [
        Record(seq, 1, type_, epoch, 0, 1e9 + seq, float(seq), body)
        for seq, (type_, epoch, body) in enumerate(written, start=1)
    ]


def rows_of(written: Iterable[tuple[str, int, dict[str, Any]]], every: int = 1) -> tuple[list[Row], Rows]:
    rows = Rows(METRICS, every)
    return [row for record in records(written) for row in rows.of(record)], rows


def plain(rows: Sequence[Row]) -> list[tuple[int, int, dict[str, float]]]:
    return [(row.step, row.epoch, dict(row.values)) for row in rows]


def test_names_are_those_of_the_log() -> None:
    rows, taken = rows_of(epoch_records(1))
    assert [dict(row.values) for row in rows][-3:] == [
        {"epoch": 1, "train/step": 4, "train/step_loss": 0.25, "train/step_lr": 0.1},
        {"epoch": 1, "train/loss": 2.0, "train/lr": 0.1, "train/seconds": 1.0},
        {"epoch": 1, "val/full/d1": 0.5, "val/full/AbsRel": 1.0, "val/full/loss": 0.5},
    ]
    assert taken.summary() == {
        "attempts": 0, "best_epoch": 1, "best/val/full/d1": 0.5, "best/val/full/AbsRel": 1.0, "best/val/full/loss": 0.5,
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, STEPS), st.integers(0, STEPS)), max_size=6),
    st.integers(1, 4),
    st.integers(1, 7),
)
def test_interruptions_leave_no_trace(kills: list[tuple[int, int]], epochs: int, every: int) -> None:
    """A run is killed at steps of its epochs and goes on at an earlier step: the rows are those of a calm one."""
    written: list[tuple[str, int, dict[str, Any]]] = []
    for epoch in range(1, epochs + 1):
        first = 0
        for killed, back in kills:
            written += [("attempt", epoch, {}), *epoch_records(epoch, first, max(first, killed))]
            first = min(back, killed)
        written += epoch_records(epoch, first)
    calm, _ = rows_of(record for epoch in range(1, epochs + 1) for record in epoch_records(epoch))
    found, rows = rows_of(written, every)
    shown = [row for row in calm if row.values.get("train/step", every) % every == 0 or row.values["train/step"] == 1]
    assert plain(found) == plain(shown)
    assert rows.count == len(calm)


def test_what_comes_out_different_is_said() -> None:
    changed = [("event", 1, {"name": "scalars", "steps": [2], "loss": [9.0], "lr": [0.1]})]
    rows, _ = rows_of([*epoch_records(1), *changed, *changed])
    assert plain(rows[-1:]) == [(6, 1, {"epoch": 1, "train/step": 2, "train/step_loss": 9.0, "train/step_lr": 0.1})]
    assert len(rows) == 7


def test_a_step_from_nowhere_takes_no_memory() -> None:
    rows, _ = rows_of([("event", 1, {"name": "scalars", "steps": [2**50], "loss": [1.0], "lr": [0.1]})])
    assert rows[0].values["train/step"] == 2**50
