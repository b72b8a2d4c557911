"""The best runs by one metric: those that are complete, each at the epoch that it selected itself."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.errors import UsageError
from ablate.report.selection import Selection
from ablate.results.queries import Queries
from ablate.results.records import EvaluationRow, RunRow, State
from ablate.study.settings import closest
from ablate.task import Metric


@dataclass(frozen=True)
class Place:
    """A run and its number; `place` counts from 1, equal numbers share one. None: it is not ranked, `status` says why."""

    place: int | None
    run: RunRow
    studies: tuple[str, ...]
    value: float | None
    epoch: int | None
    images: int | None


@dataclass(frozen=True)
class Ranking:
    """`failed` are listed below, `others` counts runs that are not ranked for another reason."""

    metric: Metric
    split: str
    resolution: str
    places: tuple[Place, ...]
    failed: tuple[Place, ...]
    others: Counter[str]
    warnings: tuple[str, ...]


def rank(
    results: Queries, chosen: Selection, metric: Metric, split: str = "val", resolution: str | None = None
) -> Ranking:
    """Ranks by `metric` on a split at a resolution: by default `val`, and where the runs themselves select.

    Raises UsageError if no run was evaluated there, or if the runs select at different resolutions and none is given.
    """
    kept = _reported(results, chosen)
    resolution = resolution or _resolution(results, chosen)
    found = [_place(chosen, run, kept.get((run.run_id, split, resolution)), metric) for run in chosen.runs]
    if found and not any((row.split, row.resolution) == (split, resolution) for row in kept.values()):
        there = ", ".join(sorted({f"{row.split} {row.resolution}" for row in kept.values()})) or "nothing yet"
        raise UsageError(f"no run was evaluated on {split} at {resolution}; there is: {there}")
    ranked = [place for place in found if place.value is not None and place.run.status is State.COMPLETE]
    ranked.sort(key=lambda place: (_sign(metric) * (place.value or 0.0), place.run.name))
    rows = [row for place in ranked if (row := kept.get((place.run.run_id, split, resolution)))]
    return Ranking(
        metric,
        split,
        resolution,
        tuple(_numbered(ranked)),
        tuple(place for place in found if place.run.status is State.FAILED),
        Counter(_why(place) for place in found if place not in ranked and place.run.status is not State.FAILED),
        tuple(_warnings(split, rows)),
    )


def find_metric(metrics: Sequence[Metric], key: str) -> Metric:
    """By key, or by header. `loss` is one too. Raises UsageError with the closest."""
    known = {metric.key: metric for metric in (*metrics, Metric("loss", "loss", "min"))}
    by_header = {metric.header: metric for metric in known.values()}
    if found := known.get(key) or by_header.get(key):
        return found
    close = closest(key, known)
    hint = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
    raise UsageError(f"--metric {key}: no such metric; {hint}")


def _sign(metric: Metric) -> int:
    return -1 if metric.better == "max" else 1


def _reported(results: Queries, chosen: Selection) -> dict[tuple[str, str, str], EvaluationRow]:
    """By run, split and resolution, of the epoch that the run selected, or else its newest."""
    epochs = {run.run_id: chosen.epochs.get(run.run_id, run.selected_epoch) for run in chosen.runs}
    rows = results.kept_evaluations(list(epochs))
    newest: dict[str, int] = {}
    for row in rows:
        newest[row.run_id] = max(row.epoch, newest.get(row.run_id, 0))
    return {
        (row.run_id, row.split, row.resolution): row
        for row in rows
        if row.epoch == (newest[row.run_id] if (epoch := epochs[row.run_id]) is None else epoch)
    }


def _resolution(results: Queries, chosen: Selection) -> str:
    studies = {row.study: row.select.get("resolution") for row in results.studies()}
    wanted = {found for row in chosen.rows if (found := _selects_at(row) or studies.get(row.study or ""))}
    if len(wanted) > 1:
        raise UsageError(
            f"these runs select at different resolutions; give one: --resolution {'|'.join(sorted(wanted))}"
        )
    return next(iter(wanted), "full")


def _selects_at(run: RunRow) -> str | None:
    value = run.configuration.get("eval")
    select = value.get("select") if isinstance(value, dict) else None
    found = select.get("resolution") if isinstance(select, dict) else None
    return found if isinstance(found, str) else None


def _place(chosen: Selection, run: RunRow, row: EvaluationRow | None, metric: Metric) -> Place:
    value = None if row is None else row.loss if metric.key == "loss" else row.metrics.get(metric.key)
    studies = tuple(other.study for other in chosen.rows if other.run_id == run.run_id and other.study)
    finite = value if value is not None and math.isfinite(value) else None
    return Place(None, run, studies, finite, _epoch(run, row), row.images if row else None)


def _epoch(run: RunRow, row: EvaluationRow | None) -> int | None:
    """None also where a log does not say of which epoch its numbers are."""
    if row is None or run.external is None or run.external.kind != "progress log":
        return row.epoch if row else None
    stated = run.external.facts.get("checkpoint")
    return stated if isinstance(stated, int) else None


def _numbered(places: Sequence[Place]) -> list[Place]:
    found: list[Place] = []
    for count, place in enumerate(places, 1):
        same = found and found[-1].value == place.value
        number = found[-1].place if same else count
        found.append(Place(number, place.run, place.studies, place.value, place.epoch, place.images))
    return found


def _why(place: Place) -> str:
    return "without this number" if place.run.status is State.COMPLETE else str(place.run.status)


def _warnings(split: str, rows: Sequence[EvaluationRow]) -> list[str]:
    said = []
    if split == "test" and len(rows) > 1:
        said.append(
            f"the best of {len(rows)} runs on test is too good by chance; choose on val, and test what you chose"
        )
    for key in dict.fromkeys(key for row in rows for key in row.protocol):
        if len({json.dumps(row.protocol.get(key), sort_keys=True) for row in rows}) > 1:
            said.append(f"not evaluated alike: the runs differ in {key} of the protocol")
    if len({row.images for row in rows}) > 1:
        said.append("not evaluated alike: the runs differ in the number of images")
    return said
