"""The pictures of a study: numbers first (`gather`, `numbers`), then one Vega-Lite specification per chart (`specs`).

`charts` gives the specifications, which an interactive page can show as they are; `svg` and `png` draw them.
"""

from __future__ import annotations

from ablate.report.charts.chart import Chart
from ablate.report.charts.draw import png, svg
from ablate.report.charts.gather import Series, gather
from ablate.report.charts.study import charts
from ablate.report.charts.theme import Theme, config

__all__ = ["Chart", "Series", "Theme", "charts", "config", "gather", "png", "svg"]
