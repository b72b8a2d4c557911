"""Tables as columns of plain text: what Markdown, LaTeX and terminals render, each with escapes of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ablate.report.arms import short_names
from ablate.report.data_notes import NOT_RECORDED, differing_data
from ablate.report.labels import Labels
from ablate.report.options import Options, metrics_of
from ablate.report.summary import RunSummary, Score, StudySummary
from ablate.report.tables import MISSING, Line, Table, show, state
from ablate.results.records import State
from ablate.study.remarks import UNKNOWN
from ablate.study.settings import freeze
from ablate.task import Metric

ARROWS = {"max": "↑", "min": "↓"}

Mark = Literal["best", "second"]


@dataclass(frozen=True)
class Column:
    """`name` is what `--columns` calls it. `marks` are of metrics: which cells are the best, as far as shown."""

    name: str
    header: str
    align: Literal["left", "center"]
    cells: tuple[str, ...]
    marks: tuple[Mark | None, ...] = ()


@dataclass(frozen=True)
class Group:
    """Lines of a table that share `title` ('attention: performer'); None if the table is not grouped."""

    title: str | None
    columns: tuple[Column, ...]


def groups(summary: StudySummary, table: Table, options: Options) -> tuple[Group, ...]:
    """The table as it is shown: its lines in order, cut into groups, with the same columns in each."""
    lines = ordered(summary, table.lines, options)
    names = shown_columns(summary, table, options)
    return tuple(
        Group(title, tuple(_column(name, summary, part, options.words) for name in names))
        for title, part in _grouped(summary, lines, options)
    )


def ordered(summary: StudySummary, lines: Sequence[Line], options: Options) -> tuple[Line, ...]:
    """Sorted by what the lines themselves show; lines without a value last, equal ones in the order of the study."""
    key = options.sort_key
    if key is None or key not in known_columns(summary):
        return tuple(lines)
    metric = _metric(summary, key)
    down = (metric is not None and metric.better == "max") != (options.sort or "").startswith("-")
    values = [(_value(key, summary, line), line) for line in lines]
    having = [(_rank(value), line) for value, line in values if not _is_nothing(value)]
    having.sort(key=lambda pair: pair[0], reverse=down)  # stable, reversed or not
    return (*(line for _, line in having), *(line for value, line in values if _is_nothing(value)))


def in_order(summary: StudySummary, options: Options) -> tuple[RunSummary, ...]:
    """The runs where there is no table to sort by: by their scores at the size that selection looks at."""
    size = summary.select.resolution if summary.select else None

    def score(run: RunSummary) -> Score | None:
        found = run.score("selected", size) if size else None
        return found or (run.scores[0] if run.scores else None)

    lines = ordered(summary, [Line(run, score(run)) for run in summary.runs], options)
    return tuple(line.run for _, part in _grouped(summary, lines, options) for line in part)


def known_columns(summary: StudySummary) -> frozenset[str]:
    metrics = (metric.key for metric in summary.metrics)
    protocol = (f"protocol.{key}" for run in summary.runs for score in run.scores for key in score.protocol)
    return frozenset((*_IDENTITY, *metrics, *protocol, *summary.axes))


def shown_columns(summary: StudySummary, table: Table, options: Options) -> tuple[str, ...]:
    """What was asked for, as far as this study has it; else what its readers need."""
    metrics = metrics_of([summary], options)
    if options.columns:
        known = known_columns(summary)
        asked = tuple(name for name in options.columns if name in known)
        return tuple(dict.fromkeys((*asked, *(metrics if options.metrics else ()))))
    return tuple(dict.fromkeys((*_needed(summary, table, options), *metrics)))


def _needed(summary: StudySummary, table: Table, options: Options) -> Iterator[str]:
    runs, scores = [line.run for line in table.lines], [line.score for line in table.lines]
    yield "run"
    yield from (axis for axis in summary.axes if axis != options.group_by)
    if len({run.seed for run in runs}) > 1 and options.group_by != "seed":
        yield "seed"
    if differing_data(runs):
        yield "data"
    if any(run.status is not State.COMPLETE for run in runs):
        yield "status"
    yield "epoch"
    if table.split is None and any(scores):
        yield "split"
    for key, common in (("images", table.images), ("skipped", table.skipped)):
        if common is None and any(score is not None and getattr(score, key) is not None for score in scores):
            yield key
    yield from (f"protocol.{key}" for key in table.differing)


def _grouped(
    summary: StudySummary, lines: Sequence[Line], options: Options
) -> list[tuple[str | None, tuple[Line, ...]]]:
    """By value of the axis, in the order in which the study has the values; a study without the axis is one group."""
    axis = options.group_by
    if axis is None or (axis != "seed" and axis not in summary.axes):
        return [(None, tuple(lines))]
    found: dict[Any, list[Line]] = {freeze(_value(axis, summary, Line(run, None))): [] for run in summary.runs}
    for line in lines:
        found[freeze(_value(axis, summary, line))].append(line)
    name = options.words.header("seed") if axis == "seed" else short_names(summary.axes)[axis]
    column = [_cell(axis, summary, options.words)(part[0]) for part in found.values() if part]
    parts = [tuple(part) for part in found.values() if part]
    return [(f"{name}: {value}", part) for value, part in zip(column, parts, strict=True)]


def _column(name: str, summary: StudySummary, lines: Sequence[Line], words: Labels) -> Column:
    cell = _cell(name, summary, words)
    cells = tuple(cell(line) for line in lines)
    if metric := _metric(summary, name):
        return Column(name, metric_header(metric), "center", cells, _marks(metric, lines, cells))
    if name in summary.axes:
        return Column(name, short_names(summary.axes)[name], "center", cells)
    return Column(name, words.header(name), "left" if name == "run" else "center", cells)


def metric_header(metric: Metric) -> str:
    return f"{metric.header} {ARROWS[metric.better]}"


def metric_cell(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _metric(summary: StudySummary, name: str) -> Metric | None:
    return None if name in _IDENTITY else next((metric for metric in summary.metrics if metric.key == name), None)


def _marks(metric: Metric, lines: Sequence[Line], cells: Sequence[str]) -> tuple[Mark | None, ...]:
    """Ranked as shown: of two cells that read alike both are the best. Only complete runs count, and only if two do."""
    counted = {
        place: float(cells[place])
        for place, line in enumerate(lines)
        if line.run.status is State.COMPLETE
        and line.score is not None
        and (value := line.score.metrics.get(metric.key)) is not None
        and math.isfinite(value)
    }
    if len(counted) < 2:
        return (None,) * len(lines)
    distinct = sorted(set(counted.values()), reverse=metric.better == "max")
    names: tuple[Mark, Mark] = ("best", "second")
    ranks = dict(zip(distinct, names, strict=False))
    return tuple(ranks.get(counted[place]) if place in counted else None for place in range(len(lines)))


def _of_score(name: str) -> Callable[[StudySummary, Line], Any]:
    return lambda summary, line: getattr(line.score, name, None)


_IDENTITY: dict[str, Callable[[StudySummary, Line], Any]] = {
    "study": lambda summary, line: summary.study,
    "run_id": lambda summary, line: line.run.run_id,
    "run": lambda summary, line: line.run.name,
    "seed": lambda summary, line: UNKNOWN if "seed" in line.run.unknown else line.run.seed,
    "status": lambda summary, line: str(line.run.status),
    "reason": lambda summary, line: line.run.reason,
    "epoch": lambda summary, line: line.score.epoch if line.score else None,
    "last_epoch": lambda summary, line: line.run.last_epoch,
    "data": lambda summary, line: line.run.data,
    "external": lambda summary, line: line.run.external.label if line.run.external else None,
    "tags": lambda summary, line: ", ".join(line.run.tags) or None,
    **{key: _of_score(key) for key in ("checkpoint", "split", "resolution", "images", "skipped", "loss")},
}
"""The values behind the columns that every report has."""


def _value(name: str, summary: StudySummary, line: Line) -> Any:
    if name in _IDENTITY:
        return _IDENTITY[name](summary, line)
    if name in summary.axes:
        return line.run.setting(name)
    if line.score is None:
        return None
    if name.startswith("protocol."):
        return line.score.protocol.get(name.removeprefix("protocol."))
    return line.score.metrics.get(name)


def _cell(name: str, summary: StudySummary, words: Labels) -> Callable[[Line], str]:
    """The text of a line in a column, in the reader's language."""
    special: dict[str, Callable[[Line], str]] = {
        "run": lambda line: line.run.name + (f" ({words.external})" if line.run.external else ""),
        "status": lambda line: state(line.run, words),
        "epoch": lambda line: MISSING if line.score is None else _epoch(line.run, line.score, words),
        "data": lambda line: _data(line.run, words),
    }
    if name in special:
        return special[name]
    if _metric(summary, name) and name not in summary.axes:
        return lambda line: metric_cell(None if line.score is None else line.score.metrics.get(name))

    def plain(line: Line) -> str:
        value = _value(name, summary, line)
        if value is None and name in ("images", "skipped") and line.score is not None:
            return words.unknown
        return show(value, words)

    return plain


def _epoch(run: RunSummary, score: Score, words: Labels) -> str:
    """'4/5': the fourth of five epochs so far; unknown where the source of an imported run does not say."""
    return "/".join(words.unknown if epoch is None else str(epoch) for epoch in (score.epoch, run.last_epoch))


def _data(run: RunSummary, words: Labels) -> str:
    shown = run.data or NOT_RECORDED
    return (words.none_recorded if shown == NOT_RECORDED else shown) if run.scores else MISSING


def _is_nothing(value: Any) -> bool:
    return value is None or value == UNKNOWN or (isinstance(value, float) and math.isnan(value))


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers before texts, so that any two values can be compared."""
    if isinstance(value, int | float):
        return (0, value)
    return (1, value if isinstance(value, str) else repr(value))
