"""Pieces that all specifications are made of: axes, marks of arms, titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablate.report.charts.chart import clean
from ablate.report.charts.numbers import Cast
from ablate.report.charts.theme import OTHERS, colour, dash, shape

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
Spec = dict[str, Any]


def spec(title: str, subtitle: str, body: Mapping[str, Any]) -> Spec:
    """A whole specification."""
    return {"$schema": SCHEMA, "title": {"text": title, "subtitle": clean(subtitle, 160)}, **body}


def values(rows: Sequence[Mapping[str, Any]]) -> Spec:
    return {"values": [dict(row) for row in rows]}


def number(
    field: str, title: str, *, log: bool = False, zero: bool = False, compact: bool = False, room: int = 0
) -> Spec:
    """A quantitative channel. `compact` writes 1.2M; `room` are pixels between the outermost marks and the edge."""
    axis: Spec = {"grid": True, "format": ".3~s" if compact else ".6~g"}
    # Without a bound on their number, labels of a logarithmic axis overlap.
    axis |= {"tickCount": 4} if log else {"tickCount": 5}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False, "padding": 8} if log else _linear(zero, room),
        "axis": axis,
    }


def _linear(zero: bool, room: int) -> Spec:
    return {"zero": zero, "nice": False, "padding": room} if room else {"zero": zero, "nice": True}


def epochs(last: int) -> Spec:
    """The axis of epochs: whole numbers alone, a dozen at most."""
    first, last = min(1, last), max(2, last)
    step = -(-(last - first) // 11)
    axis: Spec = {"format": "d", "values": list(range(first, last + 1, step)), "grid": False}
    return {
        "field": "epoch", "type": "quantitative", "title": "epoch", "axis": axis,
        "scale": {"domain": [first, last], "nice": False, "zero": False},
    }  # fmt: skip


def legend(cast: Cast, columns: int = 2, *, lines: bool = False) -> Spec | None:
    """Below the chart, in the order of the study; none for a single arm, and none of those that are grey."""
    if len(cast.shown) < 2:
        return None
    found: Spec = {"orient": "bottom", "columns": columns, "title": None, "direction": "horizontal"}
    found |= {"symbolType": "stroke", "symbolSize": 200} if lines else {"symbolOpacity": 1}
    return {**found, "values": list(cast.arms)} if cast.others else found


def arm_scale(cast: Cast, marks: Sequence[Any], rest: Any) -> Spec:
    return {"domain": list(cast.shown), "range": [*marks, *([rest] * len(cast.others))]}


def arm_colour(cast: Cast, columns: int = 2, *, lines: bool = False) -> Spec:
    """Colours of arms; those without one of their own are grey."""
    scale = arm_scale(cast, [colour(place) for place in range(len(cast.arms))], OTHERS)
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": legend(cast, columns, lines=lines)}


def arm_dash(cast: Cast, columns: int = 2) -> Spec:
    scale = arm_scale(cast, [dash(place) for place in range(len(cast.arms))], [1, 0])
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": legend(cast, columns, lines=True)}


def arm_shape(cast: Cast, columns: int = 2) -> Spec:
    scale = arm_scale(cast, [shape(place) for place in range(len(cast.arms))], "circle")
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": legend(cast, columns)}


def tooltip(*fields: tuple[str, str] | tuple[str, str, str]) -> list[Spec]:
    """(field, title) of text, or (field, title, format) of a number."""
    return [
        {"field": field, "title": title, "type": "quantitative", "format": rest[0]}
        if rest
        else {"field": field, "title": title, "type": "nominal"}
        for field, title, *rest in fields
    ]
