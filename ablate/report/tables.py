"""Summaries cut into tables, one per checkpoint and resolution, with what a reader must be warned of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.report.externals import is_logged
from ablate.report.summary import Checkpoint, RunSummary, Score, StudySummary
from ablate.results.records import State
from ablate.study.remarks import UNKNOWN

_ORDER = ("full", "reduced")


@dataclass(frozen=True)
class Line:
    """A run and what it scored; None if that checkpoint has no score."""

    run: RunSummary
    score: Score | None


@dataclass(frozen=True)
class Table:
    """`split`, `images`, `skipped` and `protocol` are what all scored runs have in common; None where they differ.

    `differing` names the entries of the protocol in which they differ.
    """

    checkpoint: Checkpoint
    resolution: str
    lines: tuple[Line, ...]
    split: str | None
    images: int | None
    skipped: int | None
    protocol: Mapping[str, Any]
    differing: tuple[str, ...]
    notes: tuple[str, ...]


def resolutions(summary: StudySummary) -> tuple[str, ...]:
    """`full`, `reduced`, then any others by name; what selection looks at if nothing was evaluated yet."""
    found = {score.resolution for run in summary.runs for score in run.scores}
    if not found and summary.select is not None:
        found = {summary.select.resolution}
    return tuple(sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)))


def tables(summary: StudySummary, checkpoint: Checkpoint) -> tuple[Table, ...]:
    return tuple(_table(summary, checkpoint, resolution) for resolution in resolutions(summary))


def last_is_selected(summary: StudySummary) -> bool:
    """Whether the table of the last epoch would repeat the other one."""
    shown = resolutions(summary)
    runs = [run for run in summary.runs if not is_logged(run)]
    return all(run.selected_epoch in (None, run.last_epoch) for run in runs) and all(
        run.score("selected", resolution) is not None or run.score("last", resolution) is None
        for run in runs
        for resolution in shown
    )


def _table(summary: StudySummary, checkpoint: Checkpoint, resolution: str) -> Table:
    lines = tuple(Line(run, run.score(checkpoint, resolution)) for run in summary.runs)
    scored = [(line.run, line.score) for line in lines if line.score is not None]
    keys = dict.fromkeys(key for _, score in scored for key in score.protocol)
    common: dict[str, Any] = {}
    differing: list[str] = []
    notes: list[str] = []
    for key in keys:
        values = {_text(score.protocol.get(key)) for _, score in scored}
        if len(values) == 1:
            common[key] = scored[0][1].protocol.get(key)
        else:
            differing.append(key)
            pairs = [(run, score.protocol.get(key)) for run, score in scored]
            notes.append(f"protocol differs in {key}: {_who(pairs)}")
    splits = {score.split for _, score in scored}
    if len(splits) > 1:
        notes.insert(0, f"scored on different splits: {_who([(run, score.split) for run, score in scored])}")
    images = {score.images for _, score in scored}
    if len(images) > 1:
        notes.insert(
            0, f"scored on different numbers of images: {_who([(run, _count(score.images)) for run, score in scored])}"
        )
    notes += [
        f"{run.name}: {score.skipped} image{'s' * (score.skipped > 1)} without a valid pixel left out"
        for run, score in scored
        if score.skipped
    ]
    skipped = _only({score.skipped for _, score in scored})
    shared = (_only(splits), _only(images), skipped, common)
    return Table(checkpoint, resolution, lines, *shared, tuple(differing), tuple(notes))


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None


def _count(images: int | None) -> int | str:
    return UNKNOWN if images is None else images


def _who(pairs: Sequence[tuple[RunSummary, Any]]) -> str:
    """'697 (a, b), 652 (c)'."""
    groups: dict[str, list[str]] = {}
    for run, value in pairs:
        groups.setdefault(show(value), []).append(run.name)
    return ", ".join(f"{shown} ({_some(names)})" for shown, names in groups.items())


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def show(value: Any) -> str:
    """A setting as people write it: 1e-5, 192x640, true; – where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e+")
    if isinstance(value, list | tuple) and value and all(type(side) is int for side in value):
        return "x".join(str(side) for side in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def state(run: RunSummary) -> str:
    """'complete', 'failed (oom)', 'running 3/20'."""
    if run.status is State.COMPLETE:
        return str(run.status)
    reason = f" ({run.reason})" if run.reason else ""
    progress = f" {run.last_epoch or 0}/{run.planned_epochs}" if run.planned_epochs else ""
    return f"{run.status}{reason}{progress if run.status is not State.QUEUED else ''}"


def short_names(axes: Iterable[str]) -> dict[str, str]:
    """`train.lr` -> `lr`, but whole keys where the last part would be ambiguous."""
    axes = tuple(axes)
    last = [axis.rpartition(".")[2] for axis in axes]
    return {axis: name if last.count(name) == 1 else axis for axis, name in zip(axes, last, strict=True)}
