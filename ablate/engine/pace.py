"""How long the cells of a study will take, from those of the same shape that have trained already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ablate.engine.plan import Planned, position_of
from ablate.runs import journal
from ablate.runs.paths import RunPaths
from ablate.task import Task


@dataclass(frozen=True)
class Pace:
    """Seconds per training image, and seconds of everything else in an epoch: evaluation and checkpoints.

    `device` is where this was measured.
    """

    per_image: float
    per_epoch: float
    device: str


def measured(planned: Iterable[Planned], task: Task) -> dict[str, Pace]:
    """By shape (see `Task.shape`), from the journals of the runs; shapes that no run has trained are left out."""
    runs: dict[str, list[RunPaths]] = {}
    for item in planned:
        if item.paths.journal.exists():
            runs.setdefault(task.shape(item.cell.config), []).append(item.paths)
    found = {shape: _pace([epoch for paths in same for epoch in _epochs(paths)]) for shape, same in runs.items()}
    return {shape: pace for shape, pace in found.items() if pace is not None}


def seconds_left(item: Planned, pace: Pace, images: int) -> float:
    """Until the run of a cell is complete, if its data set has so many training images. 0 if it is not to be trained."""
    if not item.action.trains:
        return 0.0
    train, position = item.cell.config.train, position_of(item.paths)
    per_epoch = train.images_per_epoch(images)
    epochs = float(train.all_epochs())
    if train.max_steps is not None and per_epoch:
        epochs = min(epochs, train.max_steps * train.images_per_step / per_epoch)
    done = float(position.epoch - 1) if position else 0.0
    if position and per_epoch:
        done += min(1.0, position.step * train.images_per_step / per_epoch)
    left = max(0.0, epochs - done)
    return left * per_epoch * pace.per_image + math.ceil(left) * pace.per_epoch


@dataclass(frozen=True)
class _Epoch:
    """`others`: seconds between its last record and that of the epoch before, less its training."""

    per_image: float
    others: float | None
    device: str


def _pace(epochs: Sequence[_Epoch]) -> Pace | None:
    """The median is little moved by an epoch during which the machine did something else."""
    if not epochs:
        return None
    newest = epochs[-1].device
    same = [epoch for epoch in epochs if epoch.device == newest]
    others = [epoch.others for epoch in same if epoch.others is not None]
    return Pace(median(epoch.per_image for epoch in same), median(others) if others else 0.0, newest)


def _epochs(paths: RunPaths) -> Iterator[_Epoch]:
    device, before = "", None
    for line in journal.read(paths.journal):
        record = line.record
        if record.type == "attempt":
            device, before = str(record.body.get("device", "")), None
        elif record.type == "epoch" and record.body.get("seconds") and record.body.get("images"):
            seconds = float(record.body["seconds"])
            others = None if before is None else max(0.0, record.wall - before - seconds)
            yield _Epoch(seconds / record.body["images"], others, device)
            before = record.wall
