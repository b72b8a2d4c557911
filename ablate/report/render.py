"""Summaries as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ablate.errors import UsageError
from ablate.report.latex import render_latex
from ablate.report.markdown import render_markdown
from ablate.report.options import AS_USUAL, Options, resolve
from ablate.report.summary import StudySummary
from ablate.report.tabular import render_csv, render_json

Renderer = Callable[[Sequence[StudySummary], Options], str]
"""Takes options whose names were looked up."""

FORMATS: Mapping[str, Renderer] = {
    "md": render_markdown,
    "latex": render_latex,
    "csv": render_csv,
    "json": render_json,
}


def render(summaries: Sequence[StudySummary], format: str, options: Options = AS_USUAL) -> str:
    """The text of a report. Raises UsageError for a format or a name in the options that there is not."""
    if format not in FORMATS:
        raise UsageError(f"unknown report format {format!r}; expected one of {', '.join(FORMATS)}")
    return FORMATS[format](summaries, resolve(summaries, options))
