"""A page as HTML: one file that asks for nothing else.

Texts reach it in two ways, both harmless: through Jinja's autoescape, or as JSON in which no character can end a script,
read by code that only ever makes text nodes of it. The content security policy allows exactly the scripts and the style
sheet that stand in the file, by their hashes, no network and no `eval`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from ablate import __version__
from ablate.report.page.data import Cell, Chart, Column, Page, Row, RunPage, Standing, StudyPage
from ablate.report.page.words import clean, when

_SCRIPTS = ("core.js", "table.js", "charts.js", "pictures.js", "runs.js", "live.js")
_EMBED = "window.vegaEmbed = vegaEmbed;"
_OUTCOMES = {"better": "good", "worse": "bad"}
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}

CURVE: Mapping[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
    "width": "container",
    "height": 260,
    "layer": [
        {
            "mark": {"type": "line", "point": {"size": 45}, "tooltip": True},
            "encoding": {
                "x": {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": {"tickMinStep": 1}},
                "y": {"field": "value", "type": "quantitative", "title": "loss", "scale": {"zero": False}},
                "color": {
                    "field": "series",
                    "title": None,
                    "legend": {"orient": "top"},
                    "scale": {"domain": ["train", "validation"], "range": ["#D55E00", "#0072B2"]},
                },
                "tooltip": [
                    {"field": "epoch"},
                    {"field": "series"},
                    {"field": "value", "title": "loss", "format": ".5g"},
                ],
            },
        },
        {
            "mark": {"type": "rule", "strokeDash": [4, 4]},
            "encoding": {"x": {"field": "epoch", "type": "quantitative"}},
        },
    ],
}
"""The learning curve of a run, without its data, and a mark at the selected epoch."""


def render_page(page: Page) -> str:
    """The whole file. Takes a second the first time, for the library of charts, if there are any."""
    css, early = asset("page.css") + _views(page), asset("theme.js")
    script = '(() => {\n"use strict";\n' + "\n".join(map(asset, _SCRIPTS)) + "\n})();\n"
    vega = _vega() if _has_charts(page) else ""
    template = _environment().get_template("page.html.j2")
    return template.render(
        page=page,
        policy=_policy([early, script, *([vega] if vega else [])], css),
        css=Markup(css),
        early=Markup(early),
        script=Markup(script),
        vega=Markup(vega),
        data=embedded(_data(page)),
        charts=embedded(_charts(page)),
        curve=embedded(CURVE),
        version=__version__,
        outcomes=_OUTCOMES,
    )


def embedded(value: Any) -> Markup:
    """JSON that can stand inside `<script>`: without <, >, & and any character outside ASCII."""
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for char, code in _UNSAFE.items():
        text = text.replace(char, code)
    return Markup(text)


def _finite(value: Any) -> Any:
    """JSON has no infinity; a chart leaves a gap where there is None."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


@cache
def asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, which nothing in it can end."""
    import vl_convert

    bundle = vl_convert.javascript_bundle(_EMBED)
    return bundle.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        choices=_choices,
        pairs=_pairs,
        by_id=_by_id,
        is_wide=_is_wide,
        fraction=_fraction,
        standing=_standing,
        when=when,
    )
    return environment


def _policy(scripts: Sequence[str], css: str) -> str:
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(css)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _views(page: Page) -> str:
    """Of the columns that belong to views, those of the chosen one show."""
    most = max((len(study.runs.views) for study in page.studies), default=0)
    return "".join(f'[data-view="{n}"] .g:not(.g{n}) {{ display: none; }}\n' for n in range(most))


def _has_charts(page: Page) -> bool:
    return any(study.charts or any(run.curve for run in study.pages) for study in page.studies)


def _is_wide(chart: Chart) -> bool:
    """Whether it is of several plots, which get the whole width of the page."""
    return any(key in chart.spec for key in ("concat", "hconcat", "vconcat", "facet", "repeat"))


def _choices(row: Row) -> str:
    return json.dumps({**row.choices, "tag": row.tags})


def _pairs(columns: Sequence[Column], cells: Sequence[Cell]) -> Iterator[tuple[Column, Cell]]:
    return zip(columns, cells, strict=True)


def _by_id(study: StudyPage, run_id: str) -> RunPage:
    return next(run for run in study.pages if run.run_id == run_id)


def _fraction(one: Standing) -> float:
    """How much of the training is done, from 0 to 1."""
    within = one.step / one.steps if one.steps else 0.0
    return min(1.0, max(0.0, (one.epoch - 1 + within) / one.epochs)) if one.epochs else 0.0


def _standing(one: Standing) -> str:
    """'epoch 2/5, step 30/48, loss 0.0413, 21.3 images/s, 0:01:12 left'."""
    parts = [clean(one.doing)] if one.doing != "train" else []
    parts += [f"epoch {one.epoch}/{one.epochs}", f"step {one.step}/{one.steps}"]
    parts += [] if one.loss is None else [f"loss {one.loss:.4f}"]
    parts += [] if one.images_per_second is None else [f"{one.images_per_second:.1f} images/s"]
    if one.eta is not None:
        minutes, seconds = divmod(round(one.eta), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
    return ", ".join(parts)


def _charts(page: Page) -> dict[str, Mapping[str, Any]]:
    return {
        f"{study.key}-{place}": chart.spec for study in page.studies for place, chart in enumerate(study.charts)
    }  # fmt: skip


def _data(page: Page) -> dict[str, Any]:
    return {
        "studies": {
            study.key: {
                "title": study.title,
                "settings": study.settings,
                "pages": {run.key: _run(run) for run in study.pages},
            }
            for study in page.studies
        },
        "pictures": {study.key: _pictures(study) for study in page.studies if study.pictures},
    }


def _run(run: RunPage) -> dict[str, Any]:
    changes = [[one.key, one.before, one.after] for one in run.changes]
    curve = [vars(point) for point in run.curve]
    return {
        **vars(run), "changes": changes, "curve": curve,
        "scores": asdict(run.scores), "epochs": asdict(run.epochs),
        "attempts": asdict(run.attempts), "events": asdict(run.events),
    }  # fmt: skip


def _pictures(study: StudyPage) -> dict[str, Any]:
    """Files once each, by hash; index[image][side][panel] are the hashes of a picture and its bar.

    A side is a run at an epoch.
    """
    names = {run.run_id: run.name for run in study.pages}
    images = {name: place for place, name in enumerate(dict.fromkeys(clean(one.image) for one in study.pictures))}
    sides = {key: place for place, key in enumerate(dict.fromkeys((one.run_id, one.epoch) for one in study.pictures))}
    files: dict[str, str] = {}
    index: list[list[dict[str, list[str]]]] = [[{} for _ in sides] for _ in images]
    for one in study.pictures:
        hashes = [_stored(files, data) for data in (one.png, one.bar) if data]
        index[images[clean(one.image)]][sides[one.run_id, one.epoch]][clean(one.panel)] = hashes
    several = len({epoch for _, epoch in sides}) > 1
    return {
        "images": list(images),
        "panels": list(dict.fromkeys(clean(one.panel) for one in study.pictures)),
        "sides": [
            {"run": run_id, "epoch": epoch, "label": _label(names.get(run_id, run_id), epoch if several else None)}
            for run_id, epoch in sides
        ],
        "files": files,
        "index": index,
    }


def _stored(files: dict[str, str], data: bytes) -> str:
    key = hashlib.sha256(data).hexdigest()[:16]
    files.setdefault(key, base64.b64encode(data).decode())
    return key


def _label(name: str, epoch: int | None) -> str:
    return clean(name) if epoch is None else f"{clean(name)}, epoch {epoch}"
