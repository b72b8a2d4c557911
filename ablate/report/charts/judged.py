"""Charts of a judgement: effects with intervals, interactions, the Pareto front, seeds as points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ablate.report.charts import parts
from ablate.report.charts.chart import Chart, clean, labels
from ablate.report.charts.numbers import (
    COSTS,
    Cast,
    Point,
    arrow,
    factor_name,
    is_logarithmic,
    pareto,
    value_name,
)
from ablate.report.charts.theme import DIVERGING
from ablate.report.judgement import Judgement
from ablate.report.stats.effects import Interaction, MainEffect

MOST_INTERACTIONS = 12


def source_of(judgement: Judgement) -> str:
    return f"{judgement.split} split, {judgement.resolution} size, selected checkpoints"


def effects(judgement: Judgement, axes: Sequence[str]) -> Chart | None:
    """A row per value of each axis: what it changes against the mean over all, with its interval."""
    if not judgement.main_effects:
        return None
    header, better = arrow(judgement.metric), "left" if judgement.metric.better == "min" else "right"
    low, high = _span(judgement.main_effects)
    panels = [_effect(effect, axes, header, (low, high)) for effect in judgement.main_effects]
    body: parts.Spec = {"vconcat": panels, "spacing": 16, "resolve": {"scale": {"x": "shared"}}}
    left_out = sorted({name for effect in judgement.main_effects for name in effect.left_out})
    bare = any(level.low is None for effect in judgement.main_effects for level in effect.levels)
    caption = (
        f"Each value of an axis against the mean over all values, in {judgement.metric.header} ({source_of(judgement)}), "
        f"over the largest balanced part of the grid; bars are 95 % intervals for other seeds; {better} is better"
        + ("; hollow points have no interval, since no cell has two seeds" if bare else "")
        + (f"; left out of some: {clean(', '.join(left_out), 300)}." if left_out else ".")
    )
    title = f"Main effects on {judgement.metric.header}"
    return Chart("effects", title, caption, parts.spec(title, source_of(judgement), body))


def _span(found: Sequence[MainEffect]) -> tuple[float, float]:
    """What all intervals lie within, and 0, with a margin."""
    ends = [
        end
        for effect in found
        for level in effect.levels
        for end in (level.effect, level.low, level.high)
        if end is not None
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.05 * (high - low) or 1e-6
    return low - margin, high + margin


def _effect(effect: MainEffect, axes: Sequence[str], header: str, span: tuple[float, float]) -> parts.Spec:
    names = labels(value_name(level.value) for level in effect.levels)
    rows = [
        {"value": names[value_name(level.value)], "effect": level.effect, "low": level.low, "high": level.high,
         "mean": level.mean, "text": f"{level.mean:.4g}", "cells": level.cells, "runs": level.runs,
         "bare": level.low is None}
        for level in effect.levels
    ]  # fmt: skip
    y = {
        "field": "value", "type": "nominal", "sort": None, "title": clean(factor_name(effect.factor, axes), 40),
        "axis": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "start", "titleY": -8, "titleX": 0,
                 "minExtent": 150, "maxExtent": 270, "grid": True},
    }  # fmt: skip
    x = {
        "field": "effect", "type": "quantitative", "title": f"effect on {header}",
        "scale": {"domain": list(span), "nice": False}, "axis": {"format": "+.4~g", "tickCount": 6},
    }  # fmt: skip
    tip = parts.tooltip(
        ("value", "value"), ("effect", "effect", "+.4g"), ("low", "from", "+.4g"), ("high", "to", "+.4g"),
        ("mean", "mean", ".4g"), ("runs", "runs", "d"),
    )  # fmt: skip
    filled = {"condition": {"test": "datum.bare", "value": "transparent"}, "value": "#0072B2"}
    layers: list[parts.Spec] = [
        {"mark": {"type": "rule", "strokeDash": [3, 3]}, "encoding": {"x": {"datum": 0}}},
        {"mark": {"type": "rule", "strokeWidth": 2, "color": "#0072B2"},
         "transform": [{"filter": "!datum.bare"}],
         "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y}},
        {"mark": {"type": "point", "size": 70, "filled": True, "opacity": 1, "stroke": "#0072B2", "strokeWidth": 1.5},
         "encoding": {"x": x, "y": y, "fill": filled, "tooltip": tip}},
        {"mark": {"type": "text", "align": "left", "fontSize": 11},
         "encoding": {"x": {"value": 478}, "y": y, "text": {"field": "text", "type": "nominal"}}},
        {"data": {"values": [{}]},
         "mark": {"type": "text", "align": "left", "fontSize": 11, "text": "mean", "x": 478, "y": -10}},
    ]  # fmt: skip
    return {"width": 470, "height": {"step": 24}, "data": parts.values(rows), "layer": layers}


def interactions(judgement: Judgement, axes: Sequence[str]) -> Chart | None:
    """A table of means per pair of axes, coloured by what each differs from the sum of the main effects."""
    found = judgement.interactions[:MOST_INTERACTIONS]
    if not found:
        return None
    largest = max(abs(value) for one in found for row in one.effect for value in row) or 1e-9
    header = judgement.metric.header
    body: parts.Spec = {
        "concat": [_interaction(one, axes, largest, header) for one in found],
        "columns": 2,
        "resolve": {"scale": {"color": "shared", "x": "independent", "y": "independent"}},
    }
    widths = [one.half_width for one in found if one.half_width is not None]
    left_out = sorted({name for one in found for name in one.left_out})
    cut = len(judgement.interactions) - len(found)
    caption = (
        f"Mean {header} of each combination of two values ({source_of(judgement)}), and in brackets and as colour what it "
        "differs from the sum of the two main effects"
        + (f" (95 % interval: ± {max(widths):.2g} at most)" if widths else " (no interval: no cell has two seeds)")
        + (f"; {cut} more pairs not drawn" if cut > 0 else "")
        + (f"; left out of some: {clean(', '.join(left_out), 300)}." if left_out else ".")
    )
    title = f"Two-way interactions in {header}"
    return Chart("interactions", title, caption, parts.spec(title, source_of(judgement), body))


def _interaction(one: Interaction, axes: Sequence[str], largest: float, header: str) -> parts.Spec:
    rows_of, columns_of = (
        labels(value_name(value) for value in found) for found in (one.row_values, one.column_values)
    )
    rows = [
        {"row": rows_of[value_name(row)], "column": columns_of[value_name(column)], "mean": one.mean[r][c],
         "effect": one.effect[r][c], "text": f"{one.mean[r][c]:.4g}", "more": f"({one.effect[r][c]:+.2g})",
         "strong": abs(one.effect[r][c]) > 0.6 * largest}
        for r, row in enumerate(one.row_values)
        for c, column in enumerate(one.column_values)
    ]  # fmt: skip
    x = {"field": "column", "type": "nominal", "sort": None, "title": clean(factor_name(one.columns, axes), 40),
         "axis": {"labelAngle": 0 if len(one.column_values) <= 4 else -40, "orient": "top", "labelLimit": 110}}  # fmt: skip
    y = {"field": "row", "type": "nominal", "sort": None, "title": clean(factor_name(one.rows, axes), 40),
         "axis": {"labelLimit": 150}}  # fmt: skip
    fill = {
        "field": "effect", "type": "quantitative", "title": f"interaction in {header}",
        "scale": {"domain": [-largest, 0, largest], "range": list(DIVERGING), "type": "linear"},
        "legend": {"format": "+.3~g", "orient": "bottom", "gradientLength": 200, "tickCount": 5},
    }  # fmt: skip
    ink = {"condition": {"test": "datum.strong", "value": "#FFFFFF"}, "value": "#1F2328"}
    tip = parts.tooltip(
        ("row", "row"), ("column", "column"), ("mean", "mean", ".4g"), ("effect", "interaction", "+.3g")
    )
    words = {"type": "text", "fontSize": 11}
    layers: list[parts.Spec] = [
        {"mark": {"type": "rect", "stroke": "#FFFFFF"}, "encoding": {"x": x, "y": y, "color": fill, "tooltip": tip}},
        {"mark": {**words, "dy": -6},
         "encoding": {"x": x, "y": y, "text": {"field": "text", "type": "nominal"}, "color": ink}},
        {"mark": {**words, "dy": 8, "fontSize": 10},
         "encoding": {"x": x, "y": y, "text": {"field": "more", "type": "nominal"}, "color": ink}},
    ]  # fmt: skip
    return {"width": {"step": 96}, "height": {"step": 40}, "data": parts.values(rows), "layer": layers}


def fronts(judgement: Judgement, cast: Cast) -> Chart | None:
    """Accuracy against each cost that at least two arms have."""
    found = {cost: points for cost in COSTS if len(points := pareto(judgement, cost)) > 1}
    if not found:
        return None
    best = judgement.front.best if judgement.front else ()
    panels = [_front(cost, points, judgement, cast) for cost, points in found.items()]
    names = ", ".join(clean(name) for name in best[:8]) + (" …" if len(best) > 8 else "")
    left_out = judgement.front.left_out if judgement.front else ()
    caption = (
        f"Mean {arrow(judgement.metric)} over seeds ({source_of(judgement)}) against cost; whiskers are one standard "
        "deviation between seeds. The line joins the arms that no other beats in both numbers"
        + (f"; in all of them at once none beats {names}" if best else "")
        + (f"; without all numbers: {clean(', '.join(left_out), 300)}." if left_out else ".")
    )
    title = f"{judgement.metric.header} against cost"
    body: parts.Spec = {"hconcat": panels, "resolve": {"scale": {"color": "shared", "shape": "shared"}}}
    return Chart("pareto", title, caption, parts.spec(title, source_of(judgement), body))


def _front(cost: str, points: Sequence[Point], judgement: Judgement, cast: Cast) -> parts.Spec:
    header = arrow(judgement.metric)
    title, better = COSTS[cost]
    rows = [
        {"arm": one.arm, "x": one.x, "y": one.y, "low": one.y - (one.sd or 0), "high": one.y + (one.sd or 0),
         "seeds": one.seeds, "front": one.front}
        for one in points
    ]  # fmt: skip
    x = parts.number("x", f"{title} {'↑' if better == 'max' else '↓'}", log=is_logarithmic([one.x for one in points]),
                     compact=cost == "parameters", room=14)  # fmt: skip
    y = parts.number("y", header, room=10)
    tip = parts.tooltip(("arm", "arm"), ("x", title, ".4g"), ("y", judgement.metric.header, ".4g"), ("seeds", "seeds"))
    layers: list[parts.Spec] = [
        {"transform": [{"filter": "datum.front"}],
         "mark": {"type": "line", "strokeWidth": 1.2, "strokeDash": [4, 3], "color": "#8C8C8C"},
         "encoding": {"x": x, "y": y, "order": {"field": "x", "type": "quantitative"}}},
        {"mark": {"type": "rule"},
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": parts.arm_colour(cast, 3)}},
        {"mark": {"type": "point", "size": 90, "filled": True, "opacity": 1},
         "encoding": {"x": x, "y": y, "color": parts.arm_colour(cast, 3), "shape": parts.arm_shape(cast, 3), "tooltip": tip}},
    ]  # fmt: skip
    return {"width": 250, "height": 220, "data": parts.values(rows), "layer": layers}


def seeds(judgement: Judgement, cast: Cast, found: Mapping[str, float | None]) -> Chart | None:
    """Every seed as a point, the mean of an arm as a line."""
    texts = labels(arm.name for arm in judgement.arms)
    counts = {
        texts[arm.name]: scored.count
        for arm in judgement.arms
        if (scored := arm.scores.get(judgement.metric.key)) is not None
    }
    shown = {arm: labels_with(arm, counts.get(arm)) for arm in cast.arms}
    points = [
        {"arm": member.arm, "label": shown[member.arm], "run": member.run,
         "seed": "–" if member.seed is None else str(member.seed), "value": value}
        for member in cast.members
        if member.arm in shown and (value := found.get(member.run_id)) is not None
    ]  # fmt: skip
    if not points:
        return None
    means = [
        {"label": shown[arm], "mean": math.fsum(values) / len(values)}
        for arm in shown
        if (values := [float(str(point["value"])) for point in points if point["arm"] == arm])
    ]
    x = parts.number("value", arrow(judgement.metric), room=10)
    y = {"field": "label", "type": "nominal", "title": None, "sort": list(shown.values()),
         "scale": {"domain": list(shown.values())}, "axis": {"grid": True}}  # fmt: skip
    colours = {**parts.arm_colour(cast, 3), "legend": None}
    tip = parts.tooltip(("run", "run"), ("seed", "seed"), ("value", judgement.metric.header, ".4g"))
    body: parts.Spec = {
        "width": 520,
        "height": 26 * len(shown),
        "layer": [
            {"data": parts.values(points), "mark": {"type": "point", "filled": True, "size": 55, "opacity": 0.75},
             "encoding": {"x": x, "y": y, "color": colours, "tooltip": tip}},
            {"data": parts.values(means), "mark": {"type": "tick", "thickness": 2, "size": 20},
             "encoding": {"x": {**x, "field": "mean"}, "y": y, "color": {"value": "#8C8C8C"}}},
        ],
    }  # fmt: skip
    missing = [f"{arm} {count}" for arm, count in counts.items() if "/" in count]
    caption = (
        f"{arrow(judgement.metric)} of every seed ({source_of(judgement)}); the bar is the mean of an arm, in brackets is "
        "how many seeds have a number"
        + (f". Seeds without one: {clean(', '.join(missing), 300)}" if missing else "")
        + (f". {len(cast.others)} arms that are not among the best are not drawn" if cast.others else "")
        + "."
    )
    title = f"{judgement.metric.header} of every seed"
    return Chart("seeds", title, caption, parts.spec(title, source_of(judgement), body))


def labels_with(arm: str, count: str | None) -> str:
    return arm if count is None else f"{arm} ({count})"
