"""Reports for machines: CSV and JSON with stable names and full precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ablate.errors import UsageError
from ablate.report.columns import in_order
from ablate.report.judgement_data import judgement_data
from ablate.report.options import AS_USUAL, IDENTITY_COLUMNS, Options, axes_of, metrics_of, protocol_of
from ablate.report.summary import RunSummary, Score, StudySummary

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_csv(summaries: Sequence[StudySummary], options: Options = AS_USUAL) -> str:
    """One line per run, checkpoint and resolution; then the protocol (`protocol.mask` …), the metrics, and the studies'
    axes by dotted key.

    A run without scores has one line with empty numbers. Text that a spreadsheet would take for a formula gets
    a quote in front.
    """
    metrics = metrics_of(summaries, options)
    names = (*IDENTITY_COLUMNS, *protocol_of(summaries), *metrics, *axes_of(summaries))
    if options.columns:
        names = tuple(dict.fromkeys((*options.columns, *(metrics if options.metrics else ()))))
    rows: list[Sequence[Any]] = [names]
    for summary in summaries:
        for run in in_order(summary, options):
            setting = {axis: run.setting(axis) for axis in summary.axes}
            for score in run.scores or (None,):
                values = {**setting, **_values(summary, run, score)}
                rows.append([values.get(name) for name in names])
    return "".join(_line(row) for row in rows)


def _values(summary: StudySummary, run: RunSummary, score: Score | None) -> dict[str, Any]:
    """By the column's name. An identity, a metric and an axis of one name are the first of them."""
    identity = zip(IDENTITY_COLUMNS, _identity(summary, run, score), strict=True)
    protocol = {f"protocol.{key}": value for key, value in score.protocol.items()} if score else {}
    return {**(score.metrics if score else {}), **protocol, **dict(identity)}


def _line(row: Sequence[Any]) -> str:
    out = io.StringIO()
    # With "\n" as its line end, Python's writer leaves a "\r" within a cell unquoted, and readers break there.
    csv.writer(out, lineterminator="\r\n").writerow(safe(value) for value in row)
    return out.getvalue().removesuffix("\r\n") + "\n"


def _identity(summary: StudySummary, run: RunSummary, score: Score | None) -> list[Any]:
    names: list[Any] = [summary.study, run.run_id, run.name, run.seed, str(run.status), run.reason]
    if score is None:
        return [*names, None, None, run.last_epoch, None, None, None, None, None, run.data, *_source(run)]
    counts = (score.images, score.skipped, score.loss, run.data, *_source(run))
    return [*names, score.checkpoint, score.epoch, run.last_epoch, score.split, score.resolution, *counts]


def _source(run: RunSummary) -> tuple[str | None, str]:
    """Where an imported run came from, and tags, which hold no commas."""
    return (run.external.label if run.external else None), ", ".join(run.tags)


def safe(value: Any) -> str:
    """A cell of a CSV file: numbers in full, nothing for None, text that cannot become a formula."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text if text.startswith(_FORMULA) else text


def render_json(summaries: Sequence[StudySummary], options: Options = AS_USUAL) -> str:
    """Everything; of metrics those that were chosen. Raises UsageError if columns were chosen."""
    if options.columns:
        raise UsageError("--columns: JSON always holds everything; use --metric, or --format csv")
    studies = [_study(summary, options) for summary in summaries]
    return json.dumps({"v": 1, "studies": studies}, indent=1, ensure_ascii=False) + "\n"


def _study(summary: StudySummary, options: Options) -> dict[str, Any]:
    metrics = metrics_of([summary], options)
    return {
        **{key: getattr(summary, key) for key in ("study", "task", "file", "axes", "notes")},
        "select": summary.select.model_dump() if summary.select else None,
        "metrics": [asdict(metric) for key in metrics for metric in summary.metrics if metric.key == key],
        "runs": [_run(run, metrics if options.metrics else None) for run in in_order(summary, options)],
        "judgement": judgement_data(summary.judgement),
    }


def _run(run: RunSummary, metrics: Sequence[str] | None) -> dict[str, Any]:
    # Not `asdict`, which would try to copy every mapping.
    return {
        **vars(run),
        "status": str(run.status),
        "scores": [_score(score, metrics) for score in run.scores],
        "external": vars(run.external) if run.external else None,
        "details": vars(run.details) if run.details else None,
        "remarks": [vars(remark) for remark in run.remarks],
    }


def _score(score: Score, metrics: Sequence[str] | None) -> dict[str, Any]:
    if metrics is None:
        return dict(vars(score))
    return {**vars(score), "metrics": {key: score.metrics[key] for key in metrics if key in score.metrics}}
