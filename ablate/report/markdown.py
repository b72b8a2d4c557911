"""Markdown tables in the manner of the progress log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from tabulate import tabulate

from ablate.report.columns import Column, groups, in_order
from ablate.report.details import Details, Picture
from ablate.report.externals import is_logged
from ablate.report.markdown_judgement import conclusions
from ablate.report.options import AS_USUAL, Options
from ablate.report.said import about, how_selected, of_runs, one_line, unfinished
from ablate.report.sections import fields, numbered, outputs, title
from ablate.report.summary import RunSummary, StudySummary
from ablate.report.tables import Table, last_is_selected, tables
from ablate.results.records import State

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", **{c: "\\" + c for c in "|`*[]#"}})
_OPENING = re.compile(r"[+\-=~_]|\d{1,9}(?=[.)])")
"""What makes a list, a rule, a fence or a heading of the line that it begins."""


def escape(text: str) -> str:
    """Text from a study, made harmless: it stays in its cell, on its line, and is neither code, link nor HTML."""
    return one_line(text).strip().translate(_ESCAPES)


def line(text: str) -> str:
    """As `escape`, at the beginning of a line: a sentence, whatever it begins with."""
    escaped = escape(text)
    opening = _OPENING.match(escaped)
    if opening is None:
        return escaped
    digits = opening[0] if opening[0].isdecimal() else ""
    return f"{digits}\\{escaped[len(digits) :]}"


def render_markdown(summaries: Sequence[StudySummary], options: Options = AS_USUAL) -> str:
    """The comparison tables of each study, and in the style of a progress log a section per run below them."""
    blocks: list[str] = []
    number = 1
    for summary in summaries:
        blocks.append(_study(summary, options))
        if options.style == "progress":
            runs = in_order(summary, options)
            numbers = numbered(runs, number)
            sections = [_section(summary, run, at, options) for run, at in zip(runs, numbers, strict=True)]
            blocks += [f"---\n\n{section}" for section in sections]
            number = max([number, *numbers]) + 1
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _study(summary: StudySummary, options: Options) -> str:
    words = options.words
    blocks = [f"## {escape(summary.study) if summary.study is not None else words.outside}"]
    blocks += conclusions(summary.judgement, escape, options)
    blocks += _comparison(summary, options)
    notes = [*summary.notes, *(unfinished(run, words) for run in summary.runs if run.status is not State.COMPLETE)]
    notes += of_runs(summary.runs, words, below=options.style == "progress")
    if notes:
        blocks.append(bullets(notes))
    drawn = [picture for picture in summary.pictures if picture.run_id is None or options.style == "table"]
    if drawn:
        blocks += [f"### {words.pictures}", *map(_picture, drawn)]
    return "\n\n".join(blocks)


def _picture(picture: Picture) -> str:
    return f"![{escape(picture.title)}]({quote(picture.path)})\n\n{line(picture.caption)}"


def _comparison(summary: StudySummary, options: Options) -> Iterator[str]:
    """The tables of all runs: of the selected epoch and, where that is another, of the last one."""
    words = options.words
    logged = bool(summary.runs) and all(is_logged(run) for run in summary.runs)
    yield f"### {words.as_reported if logged else escape(words.selected + how_selected(summary, words))}"
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


def bullets(notes: Sequence[str]) -> str:
    return "\n".join(f"- {line(note)}" for note in notes)


def _table(summary: StudySummary, table: Table, options: Options) -> str:
    words = options.words
    blocks = [f"#### {words.output.format(size=escape(table.resolution.capitalize()))}", line(about(table, words))]
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


def _section(summary: StudySummary, run: RunSummary, number: int, options: Options) -> str:
    """Everything of one run; what `ablate import` reads again."""
    words, details = options.words, run.details or Details()
    blocks = [f"## {number}. {escape(title(summary, run, words, options.lang))}"]
    blocks += [line(text) for text in details.prose]
    blocks.append("\n".join(_field(name, texts) for name, texts in fields(run, words)))
    if details.commands:
        blocks.append(fenced(details.commands))
    for resolution, columns in outputs(summary, run, options):
        blocks += [f"##### {words.output.format(size=escape(resolution.capitalize()))}", pipe_table(columns)]
    blocks += [_picture(picture) for picture in summary.pictures if picture.run_id == run.run_id]
    return "\n\n".join(block for block in blocks if block)


def _field(name: str, texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return f"- **{name}**: {escape(texts[0])}".replace(" -&gt; ", " -> ")  # as logs have it; it opens no tag
    return "\n".join([f"- **{name}**:", *(f"  - {line(text)}" for text in texts)])


def fenced(commands: Sequence[str]) -> str:
    """Lines of code in a fence that none of them can close."""
    lines = [one_line(command) for command in commands]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence} bash", "", *lines, "", fence])
