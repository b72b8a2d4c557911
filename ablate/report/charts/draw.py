"""Specifications as SVG and PNG, without a browser and without a network."""

from __future__ import annotations

from typing import Any

from ablate.report.charts.chart import Chart
from ablate.report.charts.theme import Theme, config

_NOWHERE = "https://nothing.invalid/"
"""The only address that a specification may load from: none of ours loads anything."""
_SCALE = 2.0


def themed(chart: Chart, theme: Theme = "light", *, transparent: bool = False) -> dict[str, Any]:
    """The specification with the colours of a theme."""
    return {**chart.spec, "config": config(theme, transparent=transparent)}


def svg(chart: Chart, theme: Theme = "light", *, transparent: bool = False) -> str:
    """The same text for the same numbers. Names from studies are text in it, never markup or a link."""
    import vl_convert

    found: str = vl_convert.vegalite_to_svg(
        themed(chart, theme, transparent=transparent), allowed_base_urls=[_NOWHERE], show_warnings=False
    )
    return found


def png(chart: Chart, theme: Theme = "light", *, transparent: bool = False, scale: float = _SCALE) -> bytes:
    """`scale` is in pixels per unit of the SVG; 2 is sharp on screens of today."""
    import vl_convert

    found: bytes = vl_convert.vegalite_to_png(
        themed(chart, theme, transparent=transparent), scale=scale, allowed_base_urls=[_NOWHERE], show_warnings=False
    )
    return found
