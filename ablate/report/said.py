"""Sentences around tables, as plain text in the reader's language: every format escapes them in its own way."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ablate.report.columns import metric_header
from ablate.report.externals import not_stated
from ablate.report.labels import Labels
from ablate.report.summary import RunSummary, StudySummary
from ablate.report.tables import Table, show, state


def one_line(text: str) -> str:
    """Without line ends and other characters that are no text."""
    return "".join(" " if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char for char in text)


def of_runs(runs: Sequence[RunSummary], words: Labels, *, below: bool = False) -> list[str]:
    """What is to be said of single runs; of all of them it is said once.

    below: sections about the runs follow, which quote what a log says.
    """
    found = [note for note in runs[0].notes if all(note in run.notes for run in runs[1:])] if len(runs) > 1 else []
    common = len(found)
    for run in runs:
        told = run.details.told if below and run.external and run.details else ()
        said = [note for note in run.notes if note not in found[:common] and note not in told]
        if unstated := [key for key in run.unknown if key not in run.settings]:
            short = not_stated(unstated, run.settings) if run.external else ", ".join(unstated)
            said.append(words.not_stated.format(what=short))
        said += [
            words.note.format(number=remark.number, text=remark.text)
            for remark in run.remarks
            if remark.text not in told
        ]
        said += [words.tags.format(tags=", ".join(run.tags))] if run.tags else []
        found += [f"{run.name}: {text}" for text in said]
    return found


def how_selected(summary: StudySummary, words: Labels) -> str:
    """' (best AbsRel ↓ on val, reduced size)', plain text."""
    if summary.select is None:
        return ""
    metric = next((metric for metric in summary.metrics if metric.key == summary.select.metric), None)
    name = metric_header(metric) if metric else summary.select.metric
    size = words.size(summary.select.resolution)
    return f" ({words.how_selected.format(metric=name, split=summary.select.split, size=size)})"


def unfinished(run: RunSummary, words: Labels) -> str:
    message = f": {run.message}" if run.message else ""
    return words.is_state.format(run=run.name, state=state(run, words)) + message


def about(table: Table, words: Labels) -> str:
    """Which split, how many images, under which protocol, as plain text."""
    parts = []
    if table.split is not None:
        parts.append(words.split.format(split=table.split))
    if table.images is not None:
        parts.append(words.one_image if table.images == 1 else words.images.format(count=table.images))
    if table.skipped is not None:
        parts.append(words.skipped.format(count=table.skipped))
    parts += [f"{words.rule(key)} {show(value, words)}" for key, value in table.protocol.items()]
    return ", ".join(parts)
