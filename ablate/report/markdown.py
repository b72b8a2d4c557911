"""Markdown tables in the manner of the progress log."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from ablate.report.columns import Column, groups, metric_header
from ablate.report.externals import is_logged, not_stated
from ablate.report.labels import Labels
from ablate.report.options import AS_USUAL, Options
from ablate.report.summary import RunSummary, StudySummary
from ablate.report.tables import Table, last_is_selected, show, state, tables
from ablate.results.records import State

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", **{c: "\\" + c for c in "|`*[]"}})


def escape(text: str) -> str:
    """Text from a study, made harmless: it stays in its cell, on its line, and is neither code, link nor HTML."""
    return one_line(text).strip().translate(_ESCAPES)


def one_line(text: str) -> str:
    """Without line ends and other characters that are no text."""
    return "".join(" " if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char for char in text)


def render_markdown(summaries: Sequence[StudySummary], options: Options = AS_USUAL) -> str:
    return "\n\n".join(_study(summary, options) for summary in summaries) + "\n" if summaries else ""


def _study(summary: StudySummary, options: Options) -> str:
    words = options.words
    blocks = [f"## {escape(summary.study) if summary.study is not None else words.outside}"]
    blocks += _comparison(summary, options)
    notes = [*summary.notes, *(_unfinished(run, words) for run in summary.runs if run.status is not State.COMPLETE)]
    notes += _of_runs(summary.runs, words)
    if notes:
        blocks.append(bullets(notes))
    return "\n\n".join(blocks)


def _comparison(summary: StudySummary, options: Options) -> Iterator[str]:
    """The tables of all runs: of the selected epoch and, where that is another, of the last one."""
    words = options.words
    logged = bool(summary.runs) and all(is_logged(run) for run in summary.runs)
    yield f"### {words.as_reported if logged else words.selected + _how_selected(summary, words)}"
    yield from (_table(summary, table, options) for table in tables(summary, "selected", words))
    if not any(run.scores for run in summary.runs):
        yield words.nothing
    elif logged:
        pass  # a log says one thing of each run
    elif last_is_selected(summary):
        yield f"### {words.last}\n\n{words.last_is_selected}"
    else:
        yield f"### {words.last}"
        yield from (_table(summary, table, options) for table in tables(summary, "last", words))


def _of_runs(runs: Sequence[RunSummary], words: Labels) -> list[str]:
    """What is to be said of single runs; of all of them it is said once."""
    found = [note for note in runs[0].notes if all(note in run.notes for run in runs[1:])] if len(runs) > 1 else []
    common = len(found)
    for run in runs:
        said = [note for note in run.notes if note not in found[:common]]
        if unstated := [key for key in run.unknown if key not in run.settings]:
            short = not_stated(unstated, run.settings) if run.external else ", ".join(unstated)
            said.append(words.not_stated.format(what=short))
        said += [words.note.format(number=remark.number, text=remark.text) for remark in run.remarks]
        said += [words.tags.format(tags=", ".join(run.tags))] if run.tags else []
        found += [f"{run.name}: {text}" for text in said]
    return found


def _how_selected(summary: StudySummary, words: Labels) -> str:
    if summary.select is None:
        return ""
    metric = next((metric for metric in summary.metrics if metric.key == summary.select.metric), None)
    name = metric_header(metric) if metric else summary.select.metric
    size = words.size(summary.select.resolution)
    return f" ({escape(words.how_selected.format(metric=name, split=summary.select.split, size=size))})"


def _unfinished(run: RunSummary, words: Labels) -> str:
    message = f": {run.message}" if run.message else ""
    return words.is_state.format(run=run.name, state=state(run, words)) + message


def bullets(notes: Sequence[str]) -> str:
    return "\n".join(f"- {escape(note)}" for note in notes)


def _table(summary: StudySummary, table: Table, options: Options) -> str:
    words = options.words
    blocks = [f"#### {words.output.format(size=escape(table.resolution.capitalize()))}", escape(about(table, words))]
    for group in groups(summary, table, options):
        blocks += [f"##### {escape(group.title)}"] if group.title is not None else []
        blocks.append(pipe_table(group.columns))
    if table.notes:
        blocks.append(bullets(table.notes))
    return "\n\n".join(block for block in blocks if block)


def pipe_table(columns: Sequence[Column]) -> str:
    """A GFM table, padded so that it can be read as it is."""
    body = [[escape(cell) for cell in row] for row in zip(*(column.cells for column in columns), strict=True)]
    return tabulate(
        body,
        headers=[escape(column.header) for column in columns],
        tablefmt="pipe",
        colalign=[column.align for column in columns] if body else None,
        disable_numparse=True,
    )


def about(table: Table, words: Labels) -> str:
    """Which split, how many images, under which protocol, as plain text."""
    parts = []
    if table.split is not None:
        parts.append(words.split.format(split=table.split))
    if table.images is not None:
        parts.append(words.one_image if table.images == 1 else words.images.format(count=table.images))
    if table.skipped is not None:
        parts.append(words.skipped.format(count=table.skipped))
    parts += [f"{words.rule(key)} {show(value)}" for key, value in table.protocol.items()]
    return ", ".join(parts)
