"""The table of a study's runs: its columns, its views, what is best in each, and what it can be filtered by."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ablate.report.arms import short_names
from ablate.report.data_notes import NOT_RECORDED, differing_data
from ablate.report.externals import MARK
from ablate.report.page.data import Cell, Column, Filter, Mark, Row, Sheet, View
from ablate.report.page.words import MISSING, clean, number, shown
from ablate.report.summary import Checkpoint, RunSummary, Score, StudySummary
from ablate.report.tables import Line, Table, last_is_selected, state, tables
from ablate.results.records import State
from ablate.study.remarks import UNKNOWN
from ablate.task import Metric

ARROWS = {"max": "↑", "min": "↓"}
_BETTER = {"max": "higher is better", "min": "lower is better"}
_CHOICES = 60
"""An axis with more values than this is found by free text instead."""
UNLIKE = "No value is marked as the best: the rows were not all scored on the same images in the same way."


@dataclass
class _Columns:
    """Columns with the cell of every row, in the order of the runs."""

    columns: list[Column] = field(default_factory=list)
    cells: list[list[Cell]] = field(default_factory=list)

    def add(self, column: Column, cells: Sequence[Cell]) -> None:
        self.columns.append(column)
        self.cells.append(list(cells))

    def rows(self) -> list[tuple[Cell, ...]]:
        return list(zip(*self.cells, strict=True))


def run_sheet(summary: StudySummary, link: Callable[[str], str]) -> Sheet:
    """One row per run, in the order of the study. `link` gives the key of a run's page by its id."""
    runs = summary.runs
    made = _Columns()
    made.add(Column("run", "Run"), [Cell(clean(run.name)) for run in runs])
    for axis, name in short_names(summary.axes).items():
        made.add(_axis_column(axis, name, runs), [_setting(run.setting(axis)) for run in runs])
    if len({run.seed for run in runs}) > 1:
        made.add(Column("seed", "Seed", True), [_setting(UNKNOWN if "seed" in r.unknown else r.seed) for r in runs])
    if differing_data(runs):
        cells = [Cell((run.data or NOT_RECORDED) if run.scores else MISSING) for run in runs]
        made.add(Column("data", "Data", title="fingerprint of the data"), cells)
    made.add(Column("status", "State"), [Cell(clean(state(run))) for run in runs])
    views = []
    for group, table in enumerate(shown_tables(summary)):
        views.append(_view(summary, table))
        _add_view(made, summary, table, group)
    rows = [_row(run, cells, link, summary.axes) for run, cells in zip(runs, made.rows(), strict=True)]
    return Sheet(tuple(made.columns), tuple(rows), tuple(views), _filters(summary, rows))


def shown_tables(summary: StudySummary) -> tuple[Table, ...]:
    """Of the selected epoch, and of the last one where that is another."""
    kinds: tuple[Checkpoint, ...] = ("selected",) if last_is_selected(summary) else ("selected", "last")
    return tuple(table for kind in kinds for table in tables(summary, kind))


def _view(summary: StudySummary, table: Table) -> View:
    checkpoint = f"{table.checkpoint} epoch"
    parts = [f"{table.split} split"] if table.split else []
    if table.images is not None:
        parts.append(f"{table.images:,} image{'s' * (table.images != 1)}")
    if table.skipped:
        parts.append(f"{table.skipped} without a valid pixel left out")
    parts += [f"{key.replace('_', ' ')} {shown(value)}" for key, value in table.protocol.items()]
    notes = [*map(clean, table.notes)]
    if len(_ended(table)) > 1 and not _alike(table):
        notes.append(UNLIKE)
    label = f"{table.resolution.capitalize()} size, {checkpoint}"
    return View(clean(label), clean(", ".join(parts)), tuple(notes))


def _ended(table: Table) -> list[Score]:
    """Of complete runs: a run that still trains is judged on other images, and is no candidate yet."""
    return [line.score for line in table.lines if line.score is not None and line.run.status is State.COMPLETE]


def _alike(table: Table) -> bool:
    """Whether all complete runs were scored on as many images of one split, under one protocol."""
    found = {(score.split, score.images, json.dumps(score.protocol, sort_keys=True)) for score in _ended(table)}
    return len(found) == 1 and None not in next(iter(found))


def _add_view(made: _Columns, summary: StudySummary, table: Table, group: int) -> None:
    lines = table.lines
    made.add(Column(f"epoch{group}", "Epoch", True, group), [_epoch(line) for line in lines])
    if table.split is None and any(line.score for line in lines):
        made.add(Column(f"split{group}", "Split", group=group), [_of(line, "split") for line in lines])
    if table.images is None and any(line.score for line in lines):
        made.add(Column(f"images{group}", "Images", True, group), [_of(line, "images") for line in lines])
    for key in table.differing:
        cells = [_setting(line.score.protocol.get(key)) if line.score else Cell(MISSING) for line in lines]
        made.add(Column(f"{key}{group}", clean(key.replace("_", " ").capitalize()), group=group), cells)
    for metric in summary.metrics:
        column = Column(
            f"{metric.key}{group}", clean(f"{metric.header} {ARROWS[metric.better]}"), True, group,
            _BETTER[metric.better], metric.better == "max",
        )  # fmt: skip
        cells = [_value(line.score, metric) for line in lines]
        ranked = [line.run.status is State.COMPLETE for line in lines] if _alike(table) else [False] * len(lines)
        made.add(column, mark(cells, ranked, metric.better == "max"))


def mark(cells: Sequence[Cell], ranked: Sequence[bool], highest: bool) -> list[Cell]:
    """Marks the best and the second best of the ranked cells; values that look alike are marked alike."""
    distinct = {cell.text for cell, counts in zip(cells, ranked, strict=True) if counts and cell.value is not None}
    if len(distinct) < 2:
        return list(cells)
    order = sorted(distinct, key=float, reverse=highest)
    marks: dict[str, Mark] = {order[0]: "best", order[1]: "second"} if len(order) > 2 else {order[0]: "best"}
    return [
        replace(cell, mark=marks.get(cell.text, "")) if counts else cell
        for cell, counts in zip(cells, ranked, strict=True)
    ]


def _axis_column(axis: str, name: str, runs: Sequence[RunSummary]) -> Column:
    values = [run.setting(axis) for run in runs]
    numeric = all(_is_number(value) for value in values if value not in (None, UNKNOWN))
    return Column(clean(axis), clean(name), numeric, title=clean(axis))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _setting(value: Any) -> Cell:
    return Cell(shown(value), float(value) if _is_number(value) else None)


def _of(line: Line, name: str) -> Cell:
    if line.score is None:
        return Cell(MISSING)
    value = getattr(line.score, name)
    return Cell(UNKNOWN) if value is None else _setting(value)


def _epoch(line: Line) -> Cell:
    if line.score is None:
        return Cell(MISSING)
    epoch, last = line.score.epoch, line.run.last_epoch
    text = f"{UNKNOWN if epoch is None else epoch}/{UNKNOWN if last is None else last}"
    return Cell(text, None if epoch is None else float(epoch))


def _value(score: Score | None, metric: Metric) -> Cell:
    value = None if score is None else score.metrics.get(metric.key)
    return Cell(number(value), value)


def _row(run: RunSummary, cells: tuple[Cell, ...], link: Callable[[str], str], axes: Sequence[str]) -> Row:
    words = " ".join([run.run_id, run.message or "", *run.tags, *(remark.text for remark in run.remarks)])
    choices = {clean(axis): shown(run.setting(axis)) for axis in axes}
    return Row(
        name=clean(run.name),
        cells=cells,
        link=link(run.run_id),
        badge=MARK if run.external else "",
        status=str(run.status),
        words=clean(words),
        tags=tuple(map(clean, run.tags)),
        choices={**choices, "status": str(run.status), "seed": shown(run.seed)},
    )


def _filters(summary: StudySummary, rows: Sequence[Row]) -> tuple[Filter, ...]:
    """Per axis, status, seed and tag; nothing to choose where all rows are alike."""
    named: Mapping[str, str] = {
        **{clean(axis): clean(name) for axis, name in short_names(summary.axes).items()},
        "status": "State",
        "seed": "Seed",
    }
    found = []
    for key, label in named.items():
        values = _ordered({row.choices[key] for row in rows})
        if 1 < len(values) <= _CHOICES:
            found.append(Filter(key, label, values))
    if tags := _ordered({tag for row in rows for tag in row.tags}):
        found.append(Filter("tag", "Tag", tags))
    return tuple(found)


def _ordered(values: set[str]) -> tuple[str, ...]:
    """Numbers by size, then texts."""

    def place(text: str) -> tuple[int, float, str]:
        try:
            return 0, float(text), text
        except ValueError:
            return 1, 0.0, text

    return tuple(sorted(values, key=place))
