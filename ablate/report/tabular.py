"""Reports for machines: CSV and JSON with stable names and full precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ablate.report.judgement_data import judgement_data
from ablate.report.summary import RunSummary, Score, StudySummary

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

IDENTITY_COLUMNS = (
    "study", "run_id", "run", "seed", "status", "reason", "checkpoint", "epoch", "last_epoch", "split",
    "resolution", "images", "skipped", "loss", "data", "external", "tags",
)  # fmt: skip


def render_csv(summaries: Sequence[StudySummary]) -> str:
    """One line per run, checkpoint and resolution; then the protocol (`protocol.mask` …), the metrics, and the studies'
    axes by dotted key.

    A run without scores has one line with empty numbers. Text that a spreadsheet would take for a formula gets
    a quote in front.
    """
    metrics = list(dict.fromkeys(metric.key for summary in summaries for metric in summary.metrics))
    axes = list(dict.fromkeys(axis for summary in summaries for axis in summary.axes))
    protocol = list(dict.fromkeys(key for score in _scores(summaries) for key in score.protocol))
    rows: list[Sequence[Any]] = [(*IDENTITY_COLUMNS, *(f"protocol.{key}" for key in protocol), *metrics, *axes)]
    for summary in summaries:
        for run in summary.runs:
            for score in run.scores or (None,):
                values = [score.metrics.get(key) if score else None for key in metrics]
                settings = [run.setting(axis) for axis in axes]
                rules = [score.protocol.get(key) if score else None for key in protocol]
                rows.append((*_identity(summary, run, score), *rules, *values, *settings))
    return "".join(_line(row) for row in rows)


def _scores(summaries: Sequence[StudySummary]) -> Iterator[Score]:
    return (score for summary in summaries for run in summary.runs for score in run.scores)


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


def render_json(summaries: Sequence[StudySummary]) -> str:
    return (
        json.dumps({"v": 1, "studies": [_study(summary) for summary in summaries]}, indent=1, ensure_ascii=False) + "\n"
    )


def _study(summary: StudySummary) -> dict[str, Any]:
    return {
        **{key: getattr(summary, key) for key in ("study", "task", "file", "axes", "notes")},
        "select": summary.select.model_dump() if summary.select else None,
        "metrics": [asdict(metric) for metric in summary.metrics],
        "runs": [_run(run) for run in summary.runs],
        "judgement": judgement_data(summary.judgement),
    }


def _run(run: RunSummary) -> dict[str, Any]:
    # Not `asdict`, which would try to copy every mapping.
    return {
        **vars(run),
        "status": str(run.status),
        "scores": [vars(score) for score in run.scores],
        "external": vars(run.external) if run.external else None,
        "remarks": [vars(remark) for remark in run.remarks],
    }
