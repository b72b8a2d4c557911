"""The numbers of each chart, apart from how they are drawn. Everything here is a pure function of values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.evaluated import Breakdown
from ablate.report.arms import short_names
from ablate.report.charts.chart import clean, labels
from ablate.report.charts.gather import Series
from ablate.report.charts.theme import MOST
from ablate.report.judgement import Judgement
from ablate.report.stats.factors import Factor, Value
from ablate.report.summary import StudySummary
from ablate.report.tables import show
from ablate.task import Direction, Metric

MOST_ARMS = 16
"""So many arms have a colour of their own; of more, the best ones have."""
assert MOST_ARMS <= MOST

COSTS: Mapping[str, tuple[str, Direction]] = {
    "images_per_second": ("training speed (images/s)", "max"),
    "peak_memory_mb": ("peak memory (MiB)", "min"),
    "parameters": ("parameters", "min"),
}


@dataclass(frozen=True)
class Member:
    """A run as a mark of a chart: its arm, its own name, and its seed."""

    run_id: str
    arm: str
    run: str
    seed: int | None


@dataclass(frozen=True)
class Cast:
    """Who is drawn. `arms` have a colour each, in this order; those of `others` share a grey one."""

    members: tuple[Member, ...]
    arms: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        return (*self.arms, *self.others)

    def place(self, arm: str) -> int | None:
        """Which colour; None for the grey one."""
        return self.arms.index(arm) if arm in self.arms else None


def cast(summary: StudySummary, series: Series) -> Cast:
    """Arms as the judgement has them; without one, every run is an arm of its own."""
    of_run = {
        run_id: arm.name for arm in (summary.judgement.arms if summary.judgement else ()) for run_id in arm.run_ids
    }
    names = [of_run.get(run.run_id, run.name) for run in summary.runs]
    texts, runs = labels(names), labels(run.name for run in summary.runs)
    members = tuple(
        Member(run.run_id, texts[name], runs[run.name], run.seed) for run, name in zip(summary.runs, names, strict=True)
    )
    everyone = tuple(dict.fromkeys(member.arm for member in members))
    if len(everyone) <= MOST_ARMS:
        return Cast(members, everyone, ())
    baselines = {
        texts[arm.name] for arm in (summary.judgement.arms if summary.judgement else ()) if arm.baseline is None
    }
    best = sorted(everyone, key=lambda arm: (arm not in baselines, _rank(arm, members, summary, series)))[:MOST_ARMS]
    return Cast(
        members, tuple(arm for arm in everyone if arm in best), tuple(arm for arm in everyone if arm not in best)
    )


def _rank(arm: str, members: Sequence[Member], summary: StudySummary, series: Series) -> float:
    """Smaller is better."""
    ids = {member.run_id for member in members if member.arm == arm}
    found = [value for run in seed_values(summary, series).items() if (value := run[1]) is not None and run[0] in ids]
    if not found:
        return math.inf
    mean = math.fsum(found) / len(found)
    return -mean if series.metric.better == "max" else mean


def seed_values(summary: StudySummary, series: Series) -> dict[str, float | None]:
    """The primary metric of every run's selected checkpoint, on the split that is judged; None for one that has none."""
    key, split = series.metric.key, summary.judgement.split if summary.judgement else None
    found = {}
    for run in summary.runs:
        score = run.score("selected", series.resolution)
        value = None
        if score is not None and split in (None, score.split):
            value = score.loss if key == "loss" else score.metrics.get(key)
        found[run.run_id] = value if value is not None and math.isfinite(value) else None
    return found


def is_logarithmic(values: Sequence[float | None]) -> bool:
    """Whether positive values span so much (a factor of 5) that a linear axis would press most of them together."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return bool(found) and min(found) > 0 and max(found) / min(found) >= 5


@dataclass(frozen=True)
class Point:
    """An arm in a chart of two numbers. `sd` is over seeds; `front` whether no other arm is better in both."""

    arm: str
    x: float
    y: float
    sd: float | None
    seeds: str
    front: bool


def pareto(judgement: Judgement, cost: str) -> tuple[Point, ...]:
    """The arms that have both numbers, by the cost; `cost` is a key of `COSTS`."""
    texts = labels(arm.name for arm in judgement.arms)
    key, (_, cheaper) = judgement.metric.key, COSTS[cost]
    found = []
    for arm in judgement.arms:
        x, scored = arm.costs.get(cost), arm.scores.get(key)
        if x is not None and math.isfinite(x) and scored is not None and scored.mean is not None:
            found.append(Point(texts[arm.name], x, scored.mean, scored.sd, scored.count, False))
    signs = (1 if cheaper == "min" else -1, 1 if judgement.metric.better == "min" else -1)
    return tuple(
        Point(one.arm, one.x, one.y, one.sd, one.seeds, not any(_beats(other, one, signs) for other in found))
        for one in sorted(found, key=lambda one: (one.x, one.y, one.arm))
    )


def _beats(other: Point, one: Point, signs: tuple[int, int]) -> bool:
    """At least as good in both numbers and better in one."""
    x, y = signs[0] * (other.x - one.x), signs[1] * (other.y - one.y)
    return x <= 0 and y <= 0 and (x < 0 or y < 0)


@dataclass(frozen=True)
class RangeValue:
    """A number of a breakdown, of one arm: the mean over its runs that have one."""

    arm: str
    low: float
    high: float
    column: str
    value: float | None


def by_range(cast: Cast, breakdowns: Mapping[str, Breakdown]) -> tuple[RangeValue, ...]:
    """One value per arm, range and column. Runs whose ranges differ from those of the first are left out."""
    first = next((breakdowns[m.run_id] for m in cast.members if m.run_id in breakdowns), None)
    if first is None:
        return ()
    arms: dict[str, list[Breakdown]] = {}
    for member in cast.members:
        found = breakdowns.get(member.run_id)
        if found is not None and same_ranges(found, first):
            arms.setdefault(member.arm, []).append(found)
    return tuple(
        RangeValue(arm, float(row["low"] or 0), float(row["high"] or 0), column.key, _mean(runs, place, column.key))
        for arm, runs in arms.items()
        for place, row in enumerate(first.rows)
        for column in first.columns
    )


def same_ranges(one: Breakdown, other: Breakdown) -> bool:
    def shape(found: Breakdown) -> object:
        return found.by, found.unit, found.columns, [(row["low"], row["high"]) for row in found.rows]

    return shape(one) == shape(other)


def _mean(runs: Sequence[Breakdown], place: int, column: str) -> float | None:
    found = [value for run in runs if (value := run.rows[place][column]) is not None]
    return math.fsum(found) / len(found) if found else None


def factor_name(factor: Factor, axes: Sequence[str]) -> str:
    """'attention', or 'attention, compression' where several axes are one factor."""
    short = short_names(axes)
    return ", ".join(short.get(axis, axis) for axis in factor.axes)


def value_name(value: Value) -> str:
    """'performer', or 'memory_compressed, 2'; – where a cell does not have the axis."""
    texts = [show(None if one is None else _loaded(one)) for one in value]
    known = [text for text, one in zip(texts, value, strict=True) if one is not None]
    return ", ".join(known or texts)


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def arrow(metric: Metric) -> str:
    return f"{clean(metric.header, 40)} {'↑' if metric.better == 'max' else '↓'}"
