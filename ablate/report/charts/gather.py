"""What charts are drawn from, asked once per study."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.evaluated import Breakdown, Column
from ablate.report.summary import RunSummary, StudySummary
from ablate.results import series
from ablate.results.queries import Queries
from ablate.results.series import Points, Speed
from ablate.task import Metric

WORST = 5


@dataclass(frozen=True)
class Worst:
    """An image on which a run is worst, and its value of the primary metric."""

    image: str
    value: float


@dataclass(frozen=True)
class Course:
    """How one run went: losses and the primary metric by epoch, and the epoch that it selected."""

    train_loss: Points = ()
    val_loss: Points = ()
    value: Points = ()
    selected: int | None = None


@dataclass(frozen=True)
class Series:
    """Of the runs of a study, by run id. `metric`, `split` and `resolution` are those of the judgement or selection.

    Courses are of `select_split`; breakdowns and worst images of the selected checkpoint, on the split that reports are
    about; a run that was not scored on that one yet has none.
    """

    metric: Metric
    resolution: str
    select_split: str
    courses: Mapping[str, Course] = field(default_factory=dict)
    breakdowns: Mapping[str, Breakdown] = field(default_factory=dict)
    worst: Mapping[str, tuple[Worst, ...]] = field(default_factory=dict)
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    """What the selected checkpoint of each run was scored on: of all runs the same."""


def gather(results: Queries, summary: StudySummary) -> Series | None:
    """None for runs of which nothing says by what they are judged."""
    basis = _basis(summary)
    if basis is None:
        return None
    metric, split, resolution = basis
    ids = [run.run_id for run in summary.runs]
    losses = series.training_losses(results, ids)
    val_losses = series.validation_values(results, ids, "loss", split, resolution)
    values = series.validation_values(results, ids, metric.key, split, resolution)
    courses = {
        run.run_id: Course(
            losses.get(run.run_id, ()), val_losses.get(run.run_id, ()), values.get(run.run_id, ()), run.selected_epoch
        )
        for run in summary.runs
    }
    at = _places(summary, resolution)
    bodies = series.breakdowns(results, ids, resolution)
    broken = {run_id: read for run_id, where in at.items() if (read := breakdown_of(bodies.get((run_id, *where))))}
    images = series.image_values(results, at, metric.key, resolution)
    return Series(
        metric,
        resolution,
        split,
        courses,
        broken,
        {run_id: worst_images(scores, metric) for run_id, scores in images.items()},
        series.speeds(results, ids),
        {run_id: where[1] for run_id, where in at.items()},
    )


def _basis(summary: StudySummary) -> tuple[Metric, str, str] | None:
    """The metric, the split that selects, and the resolution."""
    select, judged = summary.select, summary.judgement
    if judged is not None:
        return judged.metric, select.split if select else "val", judged.resolution
    if select is None:
        return None
    known = next((metric for metric in summary.metrics if metric.key == select.metric), None)
    metric = known or (summary.metrics[0] if summary.metrics else Metric("loss", "loss", "min"))
    return metric, select.split, select.resolution


def _places(summary: StudySummary, resolution: str) -> dict[str, tuple[int, str]]:
    """The (epoch, split) of each run's selected checkpoint, of one split alone: numbers of others are of other images."""
    found = {run.run_id: where for run in summary.runs if (where := _reported(run, resolution)) is not None}
    splits = {split for _, split in found.values()}
    judged = summary.judgement.split if summary.judgement else None
    wanted = judged if judged in splits else "test" if "test" in splits else min(splits, default=None)
    return {run_id: where for run_id, where in found.items() if where[1] == wanted}


def _reported(run: RunSummary, resolution: str) -> tuple[int, str] | None:
    score = run.score("selected", resolution)
    return None if score is None or score.epoch is None else (score.epoch, score.split)


def worst_images(scores: Mapping[str, float], metric: Metric, count: int = WORST) -> tuple[Worst, ...]:
    """The worst first; of equals the one whose name comes first."""
    sign = 1 if metric.better == "max" else -1
    ordered = sorted(scores.items(), key=lambda item: (sign * item[1], item[0]))
    return tuple(Worst(image, value) for image, value in ordered[:count])


def breakdown_of(body: Any) -> Breakdown | None:
    """The breakdown that an event holds; None if there is none or it is not one: journals may be written by anybody."""
    try:
        columns = tuple(
            Column(str(one["key"]), str(one["header"]), str(one["unit"]))
            for one in body["columns"]
            if re.fullmatch(r"\w{1,40}", str(one["key"]))
        )
        keys = ("low", "high", *(column.key for column in columns))
        rows = tuple({key: _number(row[key]) for key in keys} for row in body["rows"])
        found = Breakdown(str(body["by"]), str(body["unit"]), columns, rows)
    except (KeyError, TypeError, ValueError):
        return None
    ends = (row[key] for row in rows for key in ("low", "high"))
    return found if rows and columns and all(end is not None for end in ends) else None


def _number(value: Any) -> float | int | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(value)
