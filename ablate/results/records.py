"""What queries give: plain frozen values, no database and no pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.runs.notes import Note
from ablate.runs.origin import Origin
from ablate.runs.states import Reason, State

__all__ = [
    "AttemptRow", "CellRow", "EpochRow", "EvaluationRow", "EventRow", "Note", "Origin", "Reason", "RunRow", "State",
    "StudyRow",
]  # fmt: skip


@dataclass(frozen=True)
class StudyRow:
    """What a study file declared last. `axes` are dotted keys in the order of the file."""

    study: str
    task: str
    file: str
    text: str
    overrides: Sequence[str]
    select: Mapping[str, Any]
    axes: Sequence[str]
    wandb: Mapping[str, Any]
    declared: float
    cells: int
    compare: Any = None
    """As the study's file says it; see `ablate.study.estimand`."""
    metric: str | None = None
    """What verdicts are about; None for that of `select`."""


@dataclass(frozen=True)
class CellRow:
    """One cell of a study. `baseline` is the run id that reports compare it with.

    `unknown` are dotted keys of settings that the source of the cell does not state.
    """

    study: str
    run_id: str
    name: str
    position: int
    settings: Mapping[str, Any]
    seed: int
    baseline: str | None
    current: bool
    notes: Sequence[str] = ()
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class RunRow:
    """A run, once for each study that holds it; `directory` is None if it has never been started."""

    run_id: str
    study: str | None
    name: str
    task: str | None
    status: State
    reason: Reason | None
    message: str | None
    directory: Path | None
    settings: Mapping[str, Any]
    configuration: Mapping[str, Any]
    command: str | None
    created: float | None
    hash: str | None
    attempts: int
    last_epoch: int | None
    """The newest epoch that was recorded; None before the first."""
    selected_epoch: int | None
    """The best epoch so far, as the run itself selected it."""
    updated: float | None
    """When the newest record was written (Unix seconds)."""
    external: Origin | None = None
    """Where it was imported from; None if it is trained here."""
    remarks: tuple[Note, ...] = ()
    """What people wrote about it."""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttemptRow:
    attempt: int
    wall: float
    host: str | None
    pid: int | None
    device: str | None
    threads: int | None
    command: str | None
    versions: Mapping[str, Any]
    git: Mapping[str, Any] | None
    resumed_from: Mapping[str, Any] | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class EpochRow:
    """`seconds` is training time; `peak_memory_mb` is in MiB."""

    run_id: str
    epoch: int
    train_loss: float | None
    lr: float | None
    seconds: float | None
    images: int | None
    images_per_second: float | None
    peak_memory_mb: float | None


@dataclass(frozen=True)
class EvaluationRow:
    """Means over `images` images; `metrics` are in the order in which the task gave them."""

    run_id: str
    epoch: int
    split: str
    resolution: str
    metrics: Mapping[str, float | None]
    loss: float | None
    images: int | None
    """None, as `skipped`, where the source of an imported run does not say."""
    skipped: int | None
    protocol: Mapping[str, Any]


@dataclass(frozen=True)
class EventRow:
    run_id: str
    seq: int
    attempt: int
    epoch: int
    step: int
    wall: float
    name: str
    body: Mapping[str, Any]
