"""Markdown tables in the manner of the progress log."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tabulate import tabulate

from ablate.report.data_notes import NOT_RECORDED, differing_data
from ablate.report.externals import MARK, is_logged, not_stated
from ablate.report.markdown_judgement import conclusions
from ablate.report.summary import RunSummary, Score, StudySummary
from ablate.report.tables import Table, last_is_selected, short_names, show, state, tables
from ablate.results.records import State
from ablate.study.remarks import UNKNOWN
from ablate.task import Metric

_ARROWS = {"max": "↑", "min": "↓"}
_MISSING = "–"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", **{c: "\\" + c for c in "|`*[]"}})


def escape(text: str) -> str:
    """Text from a study, made harmless: it stays in its cell, on its line, and is neither code, link nor HTML."""
    plain = "".join(" " if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char for char in text)
    return plain.strip().translate(_ESCAPES)


def render_markdown(summaries: Sequence[StudySummary]) -> str:
    return "\n\n".join(_study(summary) for summary in summaries) + "\n" if summaries else ""


def _study(summary: StudySummary) -> str:
    blocks = [f"## {escape(summary.study) if summary.study is not None else 'Runs outside any study'}"]
    logged = bool(summary.runs) and all(is_logged(run) for run in summary.runs)
    blocks += conclusions(summary.judgement, escape)
    blocks.append("### As reported" if logged else f"### Selected epoch{_how_selected(summary)}")
    blocks += [_table(summary, table) for table in tables(summary, "selected")]
    if not any(run.scores for run in summary.runs):
        blocks.append("Nothing has been evaluated yet.")
    elif logged:
        pass  # a log says one thing of each run
    elif last_is_selected(summary):
        blocks.append("### Last epoch\n\nThe last epoch is the selected one in every run.")
    else:
        blocks.append("### Last epoch")
        blocks += [_table(summary, table) for table in tables(summary, "last")]
    notes = [*summary.notes, *(_unfinished(run) for run in summary.runs if run.status is not State.COMPLETE)]
    notes += _of_runs(summary.runs)
    if notes:
        blocks.append(_list(notes))
    return "\n\n".join(blocks)


def _of_runs(runs: Sequence[RunSummary]) -> list[str]:
    """What is to be said of single runs; of all of them it is said once."""
    found = [note for note in runs[0].notes if all(note in run.notes for run in runs[1:])] if len(runs) > 1 else []
    common = len(found)
    for run in runs:
        found += [f"{run.name}: {note}" for note in run.notes if note not in found[:common]]
        if unstated := [key for key in run.unknown if key not in run.settings]:
            short = not_stated(unstated, run.settings) if run.external else ", ".join(unstated)
            found.append(f"{run.name}: not stated: {short}")
        found += [f"{run.name}: note {remark.number}: {remark.text}" for remark in run.remarks]
        found += [f"{run.name}: tags: {', '.join(run.tags)}"] if run.tags else []
    return found


def _how_selected(summary: StudySummary) -> str:
    if summary.select is None:
        return ""
    metric = next((metric for metric in summary.metrics if metric.key == summary.select.metric), None)
    name = _header(metric) if metric else escape(summary.select.metric)
    return f" (best {name} on {escape(summary.select.split)}, {escape(summary.select.resolution)} size)"


def _unfinished(run: RunSummary) -> str:
    message = f": {run.message}" if run.message else ""
    return f"{run.name} is {state(run)}{message}"


def _list(notes: Sequence[str]) -> str:
    return "\n".join(f"- {escape(note)}" for note in notes)


def _table(summary: StudySummary, table: Table) -> str:
    columns = _columns(summary, table)
    body = [[cell for _, _, cells in columns for cell in (cells[place],)] for place in range(len(table.lines))]
    text = tabulate(
        body,
        headers=[header for header, _, _ in columns],
        tablefmt="pipe",
        colalign=[align for _, align, _ in columns] if body else None,
        disable_numparse=True,
    )
    blocks = [f"#### Output ({escape(table.resolution.capitalize())} size)", _about(table), text]
    if table.notes:
        blocks.append(_list(table.notes))
    return "\n\n".join(block for block in blocks if block)


def _about(table: Table) -> str:
    """Which split, how many images, under which protocol."""
    parts = []
    if table.split is not None:
        parts.append(f"{escape(table.split)} split")
    if table.images is not None:
        parts.append(f"{table.images} image{'s' * (table.images != 1)}")
    if table.skipped is not None:
        parts.append(f"{table.skipped} skipped")
    parts += [f"{escape(key.replace('_', ' '))} {escape(show(value))}" for key, value in table.protocol.items()]
    return ", ".join(parts)


Column = tuple[str, str, list[str]]
"""Header, alignment, cells."""


def _columns(summary: StudySummary, table: Table) -> list[Column]:
    runs = [line.run for line in table.lines]
    scores = [line.score for line in table.lines]
    columns: list[Column] = [("Run", "left", [_name(run) for run in runs])]
    for axis, name in short_names(summary.axes).items():
        columns.append((escape(name), "center", [escape(show(run.setting(axis))) for run in runs]))
    if len({run.seed for run in runs}) > 1:
        columns.append(("Seed", "center", [UNKNOWN if "seed" in run.unknown else show(run.seed) for run in runs]))
    if differing_data(runs):
        columns.append(("Data", "center", [(run.data or NOT_RECORDED) if run.scores else _MISSING for run in runs]))
    if any(run.status is not State.COMPLETE for run in runs):
        columns.append(("State", "center", [escape(state(run)) for run in runs]))
    columns.append(("Epoch", "center", [_epoch(line.run, line.score) for line in table.lines]))
    if table.split is None and any(scores):
        columns.append(("Split", "center", [_MISSING if score is None else escape(score.split) for score in scores]))
    columns += _protocol_columns(table)
    for metric in summary.metrics:
        columns.append((_header(metric), "center", [_value(metric, score) for score in scores]))
    return columns


def _protocol_columns(table: Table) -> list[Column]:
    """What scored runs do not have in common: numbers of images, and entries of the protocol."""
    scores = [line.score for line in table.lines]
    columns: list[Column] = []
    if any(scores):
        for header, common, key in (("Images", table.images, "images"), ("Skipped", table.skipped, "skipped")):
            if common is None and any(score is not None and getattr(score, key) is not None for score in scores):
                cells = [_MISSING if score is None else _or_unknown(getattr(score, key)) for score in scores]
                columns.append((header, "center", cells))
    for key in table.differing:
        cells = [_MISSING if score is None else escape(show(score.protocol.get(key))) for score in scores]
        columns.append((escape(key.replace("_", " ").capitalize()), "center", cells))
    return columns


def _name(run: RunSummary) -> str:
    return escape(run.name) + (f" ({MARK})" if run.external else "")


def _header(metric: Metric) -> str:
    return f"{escape(metric.header)} {_ARROWS[metric.better]}"


def _epoch(run: RunSummary, score: Score | None) -> str:
    """'4/5': the fourth of five epochs so far."""
    return _MISSING if score is None else f"{_or_unknown(score.epoch)}/{_or_unknown(run.last_epoch)}"


def _or_unknown(value: int | None) -> str:
    """What the source of an imported run does not say."""
    return UNKNOWN if value is None else str(value)


def _value(metric: Metric, score: Score | None) -> str:
    value = None if score is None else score.metrics.get(metric.key)
    return _MISSING if value is None else f"{value:.3f}"
