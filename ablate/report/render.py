"""Summaries as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ablate.errors import UsageError
from ablate.report.markdown import render_markdown
from ablate.report.summary import StudySummary
from ablate.report.tabular import render_csv, render_json

FORMATS: dict[str, Callable[[Sequence[StudySummary]], str]] = {
    "md": render_markdown,
    "csv": render_csv,
    "json": render_json,
}


def render(summaries: Sequence[StudySummary], format: str) -> str:
    """Raises UsageError for a format other than md, csv and json."""
    if format not in FORMATS:
        raise UsageError(f"unknown report format {format!r}; expected one of {', '.join(FORMATS)}")
    return FORMATS[format](summaries)
