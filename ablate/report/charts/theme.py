"""Colours of charts, light and dark.

Series have the colours of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/), told apart with any common colour
blindness, without black and yellow, which one of the two backgrounds swallows; after those the line changes its dashes.
"""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
MOST = len(PALETTE) * len(DASHES)
OTHERS = "#A0A0A0"
DIVERGING = ("#0072B2", "#F2F2F2", "#D55E00")

_INK = {"light": ("#1F2328", "#59636E", "#D8DEE4", "#FFFFFF"), "dark": ("#E6EDF3", "#9DA7B3", "#30363D", "#0D1117")}
FONT = "Helvetica, Arial, sans-serif"


def config(theme: Theme = "light", *, transparent: bool = False) -> dict[str, Any]:
    """The `config` of a Vega-Lite specification: text, lines and background."""
    strong, weak, line, paper = _INK[theme]
    text = {"labelColor": weak, "titleColor": strong, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": 500}
    return {
        "background": "transparent" if transparent else paper,
        "font": FONT,
        "padding": 12,
        "view": {"stroke": line},
        "axis": {**text, "gridColor": line, "domainColor": weak, "tickColor": weak, "labelLimit": 260},
        "legend": {**text, "labelLimit": 320, "symbolStrokeWidth": 2, "symbolSize": 60},
        "header": text,
        "title": {
            "color": strong,
            "subtitleColor": weak,
            "fontSize": 14,
            "subtitleFontSize": 11,
            "anchor": "start",
            "fontWeight": 600,
            "subtitlePadding": 4,
            "offset": 10,
        },
        "concat": {"spacing": 28},
        "rule": {"color": weak},
        "text": {"color": strong},
    }


def colour(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def dash(place: int) -> list[int]:
    return list(DASHES[place // len(PALETTE) % len(DASHES)])


def shape(place: int) -> str:
    return SHAPES[(place + place // len(PALETTE)) % len(SHAPES)]
