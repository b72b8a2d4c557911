"""Charts of single images and pixels: error by range, and the images on which runs are worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ablate.evaluated import Breakdown, Column
from ablate.report.charts import parts
from ablate.report.charts.chart import Chart, clean, labels
from ablate.report.charts.gather import Series
from ablate.report.charts.numbers import Cast, RangeValue, arrow, by_range, is_logarithmic

MOST_IMAGES = 15


def split_of(series: Series) -> str:
    return next(iter(series.splits.values()), series.select_split)


def left_out(cast: Cast, series: Series) -> str:
    """' 2 runs have no such numbers.', or nothing."""
    missing = sum(1 for member in cast.members if member.run_id not in series.splits)
    return f" {missing} run{'s have' if missing > 1 else ' has'} none yet, or failed." if missing else ""


def ranges(cast: Cast, series: Series) -> Chart | None:
    """Each number of the runs' breakdowns by range, a line per arm."""
    found = by_range(cast, series.breakdowns)
    if not found:
        return None
    first = _clean(next(series.breakdowns[m.run_id] for m in cast.members if m.run_id in series.breakdowns))
    counted = [column for column in first.columns if _is_count(first, column)]
    drawn = [column for column in first.columns if column not in counted]
    panels = [_lines(column, found, first, cast) for column in drawn] + [_bars(column, first) for column in counted]
    source = f"{split_of(series)} split, {series.resolution} size, selected checkpoints"
    runs = sum(1 for member in cast.members if member.run_id in series.breakdowns)
    title = f"Error by {first.by}"
    caption = (
        f"Over all scored pixels of the images in each range of {first.by} ({source}, {runs} run{'s' * (runs != 1)}), the "
        "mean over the runs of an arm. A signed error below 0 is a prediction that is too small."
        + left_out(cast, series)
    )
    body: parts.Spec = {
        "concat": panels,
        "columns": 2,
        "resolve": {"scale": {"color": "shared", "strokeDash": "shared", "y": "independent"}},
    }
    return Chart("ranges", title, caption, parts.spec(title, source, body))


def _clean(found: Breakdown) -> Breakdown:
    columns = tuple(replace(one, header=clean(one.header, 40), unit=_unit(one.unit)) for one in found.columns)
    return replace(found, by=clean(found.by, 40), unit=_unit(found.unit), columns=columns)


def _unit(text: str) -> str:
    return clean(text, 12) if text else ""


def _is_count(found: Breakdown, column: Column) -> bool:
    values = [row[column.key] for row in found.rows]
    return not column.unit and all(type(value) is int for value in values)


def _bins(found: Breakdown) -> dict[tuple[float, float], str]:
    return {(float(row["low"] or 0), float(row["high"] or 0)): f"{row['low']:g}–{row['high']:g}" for row in found.rows}


def _across(found: Breakdown) -> parts.Spec:
    return {"field": "range", "type": "ordinal", "sort": list(_bins(found).values()),
            "title": f"{found.by} ({found.unit})" if found.unit else found.by, "axis": {"labelAngle": -40}}  # fmt: skip


def _lines(column: Column, found: Sequence[RangeValue], first: Breakdown, cast: Cast) -> parts.Spec:
    names = _bins(first)
    rows: list[dict[str, Any]] = [
        {"arm": one.arm, "range": names[one.low, one.high], "value": one.value}
        for one in found
        if one.column == column.key and one.value is not None
    ]
    title = f"{column.header} ({column.unit})" if column.unit else column.header
    signed = any(row["value"] < 0 for row in rows)
    x, y = _across(first), parts.number("value", title, zero=True)
    tip = parts.tooltip(("arm", "arm"), ("range", first.by), ("value", title, ".4g"))
    layers: list[parts.Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.6, "point": {"size": 35}},
         "encoding": {"x": x, "y": y, "color": parts.arm_colour(cast, 3, lines=True), "strokeDash": parts.arm_dash(cast, 3),
                      "tooltip": tip}},
    ]  # fmt: skip
    if signed:
        layers.insert(0, {"mark": {"type": "rule", "strokeDash": [3, 3]}, "encoding": {"y": {"datum": 0}}})
    return {"width": 360, "height": 190, "data": parts.values(rows), "layer": layers}


def _bars(column: Column, first: Breakdown) -> parts.Spec:
    rows = [
        {"range": name, "value": row[column.key]} for name, row in zip(_bins(first).values(), first.rows, strict=True)
    ]
    tip = parts.tooltip(("range", first.by), ("value", column.header, ",d"))
    y = parts.number("value", column.header, zero=True, compact=True)
    return {
        "width": 360, "height": 190, "data": parts.values(rows),
        "mark": {"type": "bar", "color": "#8C8C8C"}, "encoding": {"x": _across(first), "y": y, "tooltip": tip},
    }  # fmt: skip


def worst(cast: Cast, series: Series) -> Chart | None:
    """The images that are among the worst of most runs, and how bad each of those runs is on them."""
    rows = worst_rows(cast, series)
    if not rows:
        return None
    order = list(dict.fromkeys(row["image"] for row in rows))
    header = arrow(series.metric)
    x = parts.number("value", header, log=is_logarithmic([row["value"] for row in rows]), room=10)
    y = {"field": "image", "type": "nominal", "title": None, "sort": order, "axis": {"grid": True, "labelLimit": 330}}
    tip = parts.tooltip(("image", "image"), ("run", "run"), ("value", series.metric.header, ".4g"))
    body: parts.Spec = {
        "width": 420, "height": 22 * len(order), "data": parts.values(rows),
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
        "encoding": {"x": x, "y": y, "color": parts.arm_colour(cast), "shape": parts.arm_shape(cast), "tooltip": tip},
    }  # fmt: skip
    source = f"{split_of(series)} split, {series.resolution} size, selected checkpoints"
    count = max(len(found) for found in series.worst.values())
    caption = (
        f"The {len(order)} images that are most often among the {count} worst of a run, by {header} ({source}); a point per "
        "run that has the image among its worst." + left_out(cast, series)
    )
    return Chart("worst", "Worst images", caption, parts.spec("Worst images", source, body))


def worst_rows(cast: Cast, series: Series) -> list[dict[str, Any]]:
    """A row per run and image, images that most runs have trouble with first."""
    bad: dict[str, list[float]] = {}
    for found in series.worst.values():
        for one in found:
            bad.setdefault(one.image, []).append(one.value)
    sign = 1 if series.metric.better == "max" else -1
    order = sorted(bad, key=lambda image: (-len(bad[image]), sign * sum(bad[image]) / len(bad[image]), image))
    order = order[:MOST_IMAGES]
    texts = labels(order)
    return [
        {"image": texts[image], "arm": member.arm, "run": member.run, "value": one.value}
        for image in order
        for member in cast.members
        for one in series.worst.get(member.run_id, ())
        if one.image == image
    ]
