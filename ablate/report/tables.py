"""Summaries cut into tables, one per checkpoint and resolution, with what a reader must be warned of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.report.externals import is_logged
from ablate.report.labels import EN, Labels
from ablate.report.summary import Checkpoint, RunSummary, Score, StudySummary
from ablate.results.records import State
from ablate.study.remarks import UNKNOWN

_ORDER = ("full", "reduced")
MISSING = "–"
"""What stands in a cell without a value."""


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


def tables(summary: StudySummary, checkpoint: Checkpoint, words: Labels = EN) -> tuple[Table, ...]:
    return tuple(_table(summary, checkpoint, resolution, words) for resolution in resolutions(summary))


def last_is_selected(summary: StudySummary) -> bool:
    """Whether the table of the last epoch would repeat the other one."""
    shown = resolutions(summary)
    runs = [run for run in summary.runs if not is_logged(run)]
    return all(run.selected_epoch in (None, run.last_epoch) for run in runs) and all(
        run.score("selected", resolution) is not None or run.score("last", resolution) is None
        for run in runs
        for resolution in shown
    )


def _table(summary: StudySummary, checkpoint: Checkpoint, resolution: str, words: Labels) -> Table:
    lines = tuple(Line(run, run.score(checkpoint, resolution)) for run in summary.runs)
    scored = [(line.run, line.score) for line in lines if line.score is not None]
    keys = dict.fromkeys(key for _, score in scored for key in score.protocol)
    common: dict[str, Any] = {}
    differing: dict[str, str] = {}
    for key in keys:
        pairs = [(run, score.protocol.get(key)) for run, score in scored]
        if len({_text(value) for _, value in pairs}) == 1:
            common[key] = pairs[0][1]
        else:
            differing[key] = words.different_protocol.format(entry=words.rule(key), who=_who(pairs, words))
    splits, images = {score.split for _, score in scored}, {score.images for _, score in scored}
    skipped = _only({score.skipped for _, score in scored})
    shared = (_only(splits), _only(images), skipped, common)
    notes = (*_different(scored, words), *differing.values(), *_left_out(scored, words))
    return Table(checkpoint, resolution, lines, *shared, tuple(differing), notes)


def _different(scored: Sequence[tuple[RunSummary, Score]], words: Labels) -> Iterator[str]:
    """That rows are not of the same images."""
    if len({score.images for _, score in scored}) > 1:
        counts = [(run, UNKNOWN if score.images is None else score.images) for run, score in scored]
        yield words.different_images.format(who=_who(counts, words))
    if len({score.split for _, score in scored}) > 1:
        yield words.different_splits.format(who=_who([(run, score.split) for run, score in scored], words))


def _left_out(scored: Sequence[tuple[RunSummary, Score]], words: Labels) -> Iterator[str]:
    for run, score in scored:
        if score.skipped:
            text = words.left_out if score.skipped > 1 else words.one_left_out
            yield text.format(run=run.name, count=score.skipped)


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None


def _who(pairs: Sequence[tuple[RunSummary, Any]], words: Labels) -> str:
    """'697 (a, b), 652 (c)'."""
    groups: dict[str, list[str]] = {}
    for run, value in pairs:
        groups.setdefault(show(value, words), []).append(run.name)
    return ", ".join(f"{shown} ({_some(names, words)})" for shown, names in groups.items())


def _some(names: Sequence[str], words: Labels, most: int = 3) -> str:
    text = ", ".join(names[:most])
    return words.and_more.format(names=text, count=len(names) - most) if len(names) > most else text


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def show(value: Any, words: Labels = EN) -> str:
    """A setting as people write it: 1e-5, 192x640, true; – where there is none."""
    if value is None:
        return MISSING
    if value == UNKNOWN:
        return words.unknown
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e+")
    if isinstance(value, list | tuple) and value and all(type(side) is int for side in value):
        return "x".join(str(side) for side in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def state(run: RunSummary, words: Labels = EN) -> str:
    """'complete', 'failed (oom)', 'running 3/20'."""
    name = words.states.get(str(run.status), str(run.status))
    if run.status is State.COMPLETE:
        return name
    reason = f" ({run.reason})" if run.reason else ""
    progress = f" {run.last_epoch or 0}/{run.planned_epochs}" if run.planned_epochs else ""
    return f"{name}{reason}{progress if run.status is not State.QUEUED else ''}"
