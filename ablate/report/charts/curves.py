"""Learning curves: losses and the primary metric by epoch, a line per run, the selected epoch marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ablate.report.charts import parts
from ablate.report.charts.chart import Chart
from ablate.report.charts.gather import Course, Series
from ablate.report.charts.numbers import Cast, arrow, is_logarithmic
from ablate.results.series import Points

WIDTH, HEIGHT = 270, 220


def learning_curves(cast: Cast, series: Series, study: str) -> Chart | None:
    """None before the first epoch."""
    header = arrow(series.metric)
    wanted: list[tuple[str, Callable[[Course], Points]]] = [
        ("training loss", lambda course: course.train_loss),
        (f"{series.select_split} loss", lambda course: course.val_loss),
    ]
    if series.metric.key != "loss":
        wanted.append((f"{series.select_split} {header}", lambda course: course.value))
    rows = {title: _rows(cast, series, of) for title, of in wanted}
    if not any(rows.values()):
        return None
    last = max(row["epoch"] for found in rows.values() for row in found)
    panels = [_panel(title, found, cast, last) for title, found in rows.items() if found]
    logs = [title for title, found in rows.items() if is_logarithmic([row["value"] for row in found])]
    runs = len({row["run"] for found in rows.values() for row in found})
    source = f"{series.select_split} split, {series.resolution} size, {runs} run{'s' * (runs != 1)}"
    caption = (
        f"One line per run of {study}; the last two of {series.select_split} at {series.resolution} size. "
        "The dot is the epoch that the run selected."
        + (f" Logarithmic: {', '.join(logs)}." if logs else "")
        + (f" The {len(cast.arms)} best arms have colours, {len(cast.others)} others are grey." if cast.others else "")
    )
    body = {"hconcat": panels, "resolve": {"scale": {"color": "shared", "strokeDash": "shared"}}}
    return Chart("curves", "Learning curves", caption, parts.spec("Learning curves", source, body))


def _rows(cast: Cast, series: Series, of: Callable[[Course], Points]) -> list[dict[str, Any]]:
    rows = []
    for member in cast.members:
        course = series.courses.get(member.run_id, Course())
        for epoch, value in of(course):
            if value is not None and math.isfinite(value):
                rows.append(
                    {"arm": member.arm, "run": member.run, "epoch": epoch, "value": value,
                     "best": epoch == course.selected}
                )  # fmt: skip
    return rows


def _panel(title: str, rows: Sequence[dict[str, Any]], cast: Cast, last: int) -> parts.Spec:
    log = is_logarithmic([row["value"] for row in rows])
    tip = parts.tooltip(("run", "run"), ("epoch", "epoch", "d"), ("value", title, ".4g"))
    x, y = parts.epochs(last), parts.number("value", title, log=log)
    colours: parts.Spec = {"color": parts.arm_colour(cast, 3, lines=True), "strokeDash": parts.arm_dash(cast, 3)}
    lines: parts.Spec = {
        "mark": {"type": "line", "strokeWidth": 1.6, "opacity": 0.9},
        "encoding": {"x": x, "y": y, "detail": {"field": "run", "type": "nominal"}, **colours, "tooltip": tip},
    }
    dots: parts.Spec = {
        "transform": [{"filter": "datum.best"}],
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": parts.arm_colour(cast, 3, lines=True), "tooltip": tip},
    }
    layers = [lines, dots] if any(row["best"] for row in rows) and title != "training loss" else [lines]
    if len({row["epoch"] for row in rows}) == 1:  # a line of one point is not seen
        layers[0]["mark"] = {"type": "point", "filled": False, "size": 45}
        del layers[0]["encoding"]["strokeDash"]
    return {"width": WIDTH, "height": HEIGHT, "data": parts.values(rows), "layer": layers}
