"""Charts as pictures: well-formed, the same for the same numbers, legible with many runs, and inert."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from ablate.report.charts import charts, png, svg
from ablate.report.charts.theme import config

NAMES = ("curves", "seeds", "effects", "interactions", "pareto", "ranges", "worst")
SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert(1)</script>]]>&quot;\"'`${alert(2)}\u202e\x07 {{x}} javascript:alert(3)"


def texts(picture: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def found(made: Any) -> dict[str, Any]:
    return {chart.name: chart for chart in charts(made.summary, made.series)}


def test_a_judged_study_has_every_chart_and_each_is_a_picture_that_says_what_it_is_from(make_study: Any) -> None:
    made = found(make_study(arms=6))
    assert tuple(made) == NAMES
    for chart in made.values():
        picture = svg(chart)
        root = ElementTree.fromstring(picture)
        assert root.tag == f"{SVG}svg"
        said = texts(picture)
        assert chart.title in said
        assert any("split" in text and "reduced size" in text for text in said), (
            "split and resolution are in the picture"
        )
        assert "split" in chart.caption or "val" in chart.caption
        assert "undefined" not in picture and "NaN" not in picture


def test_the_same_numbers_are_the_same_picture(make_study: Any) -> None:
    for name in ("curves", "pareto", "ranges"):
        assert svg(found(make_study())[name]) == svg(found(make_study())[name])
    assert png(found(make_study())["seeds"]) == png(found(make_study())["seeds"])


def test_a_line_per_run_and_a_mark_at_its_selected_epoch(make_study: Any) -> None:
    made = make_study(arms=6, seeds=3)
    spec = found(made)["curves"].spec
    panel = spec["hconcat"][2]
    rows = panel["data"]["values"]
    assert len({row["run"] for row in rows}) == 18
    assert {row["epoch"] for row in rows if row["best"]} == {5}
    assert sum(row["best"] for row in rows) == 17, "the failed run selected none"
    assert len(panel["layer"]) == 2 and len(spec["hconcat"][0]["layer"]) == 1


@pytest.mark.parametrize("epochs", [1, 2, 3, 12, 13, 100])
def test_epochs_are_whole_numbers_and_not_too_many(make_study: Any, epochs: int) -> None:
    axis = found(make_study(arms=1, epochs=epochs))["curves"].spec["hconcat"][0]["layer"][0]["encoding"]["x"]["axis"]
    assert axis["values"][0] == 1
    assert len(axis["values"]) <= 12 and len(set(axis["values"])) == len(axis["values"])


def test_many_runs_stay_legible(make_study: Any) -> None:
    made = found(make_study(arms=40, seeds=1))
    picture = svg(made["curves"])
    legend = [text for text in texts(picture) if "lr" in text]
    assert len(legend) == 16
    assert "24 others are grey" in made["curves"].caption
    assert float(ElementTree.fromstring(picture).attrib["width"]) < 1400


def test_marks_and_words_lie_within_the_picture(make_study: Any) -> None:
    """Vega gives the size after layout; labels that were clipped would end in an ellipsis."""
    for chart in found(make_study(arms=6)).values():
        assert not [text for text in texts(svg(chart)) if text.endswith("…")], chart.name


def test_what_is_not_there_is_not_drawn(make_study: Any) -> None:
    made = make_study(judged=False)
    assert set(found(made)) == {"curves", "ranges", "worst"}
    nothing = replace(made.series, courses={}, breakdowns={}, worst={}, splits={})
    assert charts(made.summary, nothing) == ()
    one = make_study(arms=1, seeds=1, epochs=1)
    for chart in charts(one.summary, one.series):
        ElementTree.fromstring(svg(chart))


def test_names_are_text_whatever_they_hold(make_study: Any) -> None:
    made = make_study(arms=4, name=lambda label: label + NASTY)
    worst = {
        run: tuple(replace(one, image=one.image + NASTY) for one in images) for run, images in made.series.worst.items()
    }
    by = {run: replace(one, by=NASTY, unit=NASTY) for run, one in made.series.breakdowns.items()}
    judged = charts(made.summary, replace(made.series, worst=worst, breakdowns=by))
    assert len(judged) == len(NAMES)
    for chart in judged:
        picture = svg(chart)
        root = ElementTree.fromstring(picture)  # control characters would be no XML
        tags = {node.tag.removeprefix(SVG) for node in root.iter()}
        assert not tags & {"script", "a", "image", "foreignObject", "iframe", "use"}, chart.name
        assert not [key for node in root.iter() for key in node.attrib if key.startswith("on") or "href" in key]
    shown = " ".join(texts(svg(judged[1])))
    assert "<script>" in shown or "alert" in shown, "the name is there, as text"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_have_a_background_and_readable_text(make_study: Any, theme: Any) -> None:
    chart = found(make_study())["seeds"]
    picture = svg(chart, theme)
    colours = config(theme)
    assert f'fill="{colours["background"]}"' in picture
    assert contrast(colours["title"]["color"], colours["background"]) > 7
    assert contrast(colours["axis"]["labelColor"], colours["background"]) > 4.5
    assert 'fill="transparent"' in svg(chart, theme, transparent=True) or colours["background"] not in svg(
        chart, theme, transparent=True
    )


def contrast(one: str, other: str) -> float:
    """WCAG 2.1."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_specifications_hold_their_numbers_and_load_nothing(make_study: Any) -> None:
    for chart in found(make_study()).values():
        text = json.dumps(chart.spec, allow_nan=False)
        assert re.findall(r'https?://[^"]+', text) == ["https://vega.github.io/schema/vega-lite/v6.json"]
        assert '"url"' not in text and '"href"' not in text
