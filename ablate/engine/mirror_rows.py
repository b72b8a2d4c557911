"""What wandb is told of a run: rows of numbers, made from the records of its journal.

A row's step in wandb is its place among all rows that the journal gives, counted also where a row is left out. A record
that says again what was said of its place before (a resumed run repeats steps) gives no row, so that the rows of a run
do not depend on how often it was interrupted, and whoever has the first n rows of a run lacks exactly the others.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.runs.journal import Record
from ablate.task import Metric

EPOCH, STEP = "epoch", "train/step"
"""What charts of epochs and of single steps are drawn over."""
OF_STEPS = ("train/step_loss", "train/step_lr")
OF_EPOCHS = {
    "train_loss": "train/loss",
    "lr": "train/lr",
    "seconds": "train/seconds",
    "images_per_second": "train/images_per_second",
    "peak_memory_mb": "train/peak_memory_mb",
}
"""The journal's names, and wandb's."""
_FAR = 1_000_000
"""A step so far beyond the last is not remembered: memory must not depend on what a record says."""


@dataclass(frozen=True)
class Row:
    """`step` is wandb's; `wall` is Unix time; `split` and `resolution` say which evaluation it is, if it is one."""

    step: int
    wall: float
    epoch: int
    values: Mapping[str, float]
    split: str = ""
    resolution: str = ""


class _Steps:
    """The loss and rate of every step so far, 16 bytes each."""

    def __init__(self) -> None:
        self._values = array("d")

    def is_new(self, step: int, loss: float, lr: float) -> bool:
        """Whether the step is said for the first time, or differs from what was said; it is remembered."""
        place = 2 * step
        if place + 1 < len(self._values) and self._values[place : place + 2].tolist() == [loss, lr]:
            return False
        if 0 <= place < len(self._values) + 2 * _FAR:
            while len(self._values) < place + 2:
                self._values.append(math.nan)
            self._values[place], self._values[place + 1] = loss, lr
        return True


@dataclass
class Rows:
    """Takes the records of a journal from its beginning. `metrics` are the task's, whose headers are wandb's names.

    Of single steps every `every`-th gives a row, and the first.
    """

    metrics: Sequence[Metric] = ()
    every: int = 1
    count: int = 0
    """Rows so far: the step of the next one."""
    attempts: int = 0
    best: int | None = None
    """The selected epoch."""
    _steps: _Steps = field(default_factory=_Steps)
    _said: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    _evaluated: dict[int, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {metric.key: metric.header for metric in self.metrics}

    def of(self, record: Record) -> Iterator[Row]:
        """The rows of the next record."""
        if record.type == "epoch":
            yield from self._epoch(record)
        elif record.type == "evaluation":
            yield from self._evaluation(record)
        elif record.type == "attempt":
            self.attempts += 1
        elif record.body.get("name") == "scalars":
            yield from self._scalars(record)
        elif record.body.get("name") == "selected":
            self.best = record.body.get("epoch")

    def summary(self) -> dict[str, Any]:
        """What the selected epoch reached, under `best/` and the names of the rows."""
        found = {} if self.best is None else self._evaluated.get(self.best, {})
        return {"attempts": self.attempts, "best_epoch": self.best} | {
            f"best/{name}": value for name, value in found.items()
        }

    def _epoch(self, record: Record) -> Iterator[Row]:
        body = record.body
        if self._is_new(("epoch", record.epoch), [body.get(key) for key in ("train_loss", "images", "order")]):
            values = {name: body[key] for key, name in OF_EPOCHS.items() if _is_number(body.get(key))}
            yield Row(self._next(), record.wall, record.epoch, {EPOCH: record.epoch, **values})

    def _evaluation(self, record: Record) -> Iterator[Row]:
        body = record.body
        split, resolution = str(body.get("split")), str(body.get("resolution"))
        given = {self._names.get(key, key): value for key, value in body.get("metrics", {}).items()}
        given["loss"] = body.get("loss")
        if self._is_new(("evaluation", record.epoch, split, resolution), given):
            values = {f"{split}/{resolution}/{name}": value for name, value in given.items() if _is_number(value)}
            self._evaluated.setdefault(record.epoch, {}).update(values)
            row = {EPOCH: record.epoch, **values}
            yield Row(self._next(), record.wall, record.epoch, row, split, resolution)

    def _scalars(self, record: Record) -> Iterator[Row]:
        body = record.body
        for step, loss, lr in zip(body["steps"], body["loss"], body["lr"], strict=True):
            if not self._steps.is_new(step, loss, lr):
                continue
            place = self._next()
            if step % self.every == 0 or step == 1:
                values = {EPOCH: record.epoch, STEP: step, **dict(zip(OF_STEPS, (loss, lr), strict=True))}
                yield Row(place, record.wall, record.epoch, values)

    def _is_new(self, place: tuple[Any, ...], said: Any) -> bool:
        new = place not in self._said or self._said[place] != said
        self._said[place] = said
        return new

    def _next(self) -> int:
        self.count += 1
        return self.count - 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
