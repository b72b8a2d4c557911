"""Pages about made-up studies, and a browser that looks at them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ablate.report.page.build import About, Extras, build
from ablate.report.page.data import Page, Picture
from ablate.report.page.render import render_page
from ablate.report.summary import RunSummary, Score, StudySummary
from ablate.results.queries import Queries
from ablate.results.records import Note, RunRow, State
from ablate.task import Metric, SelectSettings

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"), Metric("rmse", "RMSE", "min"))
PROTOCOL = {"crop": "kb", "mask": "garg"}


@dataclass(frozen=True)
class AChart:
    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]


def points(values: Sequence[float], label: str = "standard") -> AChart:
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "height": 160,
        "data": {"values": [{"epoch": place, "AbsRel": value, "arm": label} for place, value in enumerate(values)]},
        "mark": {"type": "point", "tooltip": True, "size": 200, "filled": True},
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative"},
            "y": {"field": "AbsRel", "type": "quantitative"},
            "color": {"field": "arm"},
        },
    }
    return AChart("points", f"AbsRel of {label}", f"Of {label}, by epoch.", spec)


def png(colour: tuple[int, int, int]) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (64, 32), colour).save(made, "png")
    return made.getvalue()


@dataclass
class Made:
    """A study in the making: words that hostile tests replace, and numbers."""

    runs: int = 6
    study: str = "compressed"
    axis: str = "model.attention"
    values: Sequence[str] = ("standard", "performer", "mem_com_2")
    name: str = "run"
    note: str = "looks blurry far away"
    tag: str = "keep"
    message: str = "out of memory: 8.1 GiB asked for"
    command: str = "ablate run studies/compressed.yaml"
    image: str = "2011_09_26/0000000005.png"
    configuration: Mapping[str, Any] = field(default_factory=lambda: {"train": {"epochs": 5, "lr": 1e-5}})
    charts: Sequence[AChart] = ()
    pictures: bool = False

    def value(self, place: int) -> str:
        return self.values[place % len(self.values)]

    def failed(self, place: int) -> bool:
        return place % 5 == 4

    def id(self, place: int) -> str:
        return f"{place:08x}"

    def score(self, place: int, checkpoint: str, resolution: str) -> Score:
        base = ((place * 7919) % 1000) / 1000 + (0.001 if resolution == "full" else 0.0)
        marks = {"d1": 1 - base, "abs_rel": base, "rmse": 10 * base}
        return Score(checkpoint, 4, "test", resolution, marks, 0.25, 652, 0, PROTOCOL)

    def summary(self, place: int) -> RunSummary:
        failed = self.failed(place)
        scores = () if failed else tuple(
            self.score(place, checkpoint, resolution)
            for checkpoint in ("selected", "last") for resolution in ("full", "reduced")
        )  # fmt: skip
        return RunSummary(
            run_id=self.id(place), name=f"{self.name}-{place}", settings={self.axis: self.value(place)},
            seed=place % 2, baseline=self.id(0) if place else None,
            status=State.FAILED if failed else State.COMPLETE, reason="oom" if failed else None,
            message=self.message if failed else None, selected_epoch=None if failed else 4,
            last_epoch=2 if failed else 4, planned_epochs=5, scores=scores,
            remarks=(Note(1, 1000.0, self.note),) if place == 1 else (), tags=(self.tag,) if place == 1 else (),
        )  # fmt: skip

    def row(self, place: int) -> RunRow:
        one = self.summary(place)
        configuration = {**self.configuration, "model": {"attention": self.value(place)}}
        return RunRow(
            one.run_id, self.study, one.name, "depth", one.status, None, one.message, None, one.settings,
            configuration, self.command, 1000.0, "0" * 64, 1, one.last_epoch, one.selected_epoch, 1000.0,
        )  # fmt: skip

    def page(self, **about: Any) -> Page:
        summary = StudySummary(
            self.study, "depth", "studies/compressed.yaml", (self.axis,), METRICS,
            SelectSettings(metric="abs_rel", split="val", resolution="reduced"), tuple(map(self.summary, range(self.runs))),
        )  # fmt: skip
        extras = Extras(self.charts, tuple(self._pictures()) if self.pictures else ())
        stored = Stored(tuple(map(self.row, range(self.runs))))
        return build(stored, [summary], About(1000.0, extras={self.study: extras}, **about))

    def _pictures(self) -> Iterator[Picture]:
        colours = {"input": (90, 90, 90), "ground truth": (0, 0, 200), "error": (200, 200, 0)}
        for place, mine in ((0, (200, 0, 0)), (1, (0, 200, 0))):
            for panel, colour in {**colours, "prediction": mine}.items():
                yield Picture(self.id(place), self.image, panel, png(colour))


class Stored(Queries):
    """Results with nothing but rows: no journal was written."""

    def __init__(self, rows: tuple[RunRow, ...]) -> None:
        super().__init__(self._nothing, Path())
        self._rows = rows
        self.epochs_of: dict[str, list[tuple[Any, ...]]] = {}

    def runs(self, study: str | None = None, *, run_id: str | None = None) -> tuple[RunRow, ...]:
        return self._rows

    def _nothing(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        if "FROM base.shown_epochs" in sql and not sql.startswith("DESCRIBE"):
            return [
                (run_id, epoch, 0.5 / epoch, 1e-4, 2.0, 6, 3.0, None)
                for run_id in list(parameters[0])[:2]  # type: ignore[call-overload]
                for epoch in (1, 2, 3, 4)
            ]
        return []


@pytest.fixture
def made() -> Callable[..., Made]:
    return Made


@pytest.fixture
def chart() -> Callable[..., AChart]:
    return points


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of pages."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs a chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


@dataclass
class Opened:
    """A tab, and all that happened in it that must not."""

    tab: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Requests that failed, and why."""

    def column(self, key: str, section: str = "#s0-runs") -> list[str]:
        """The texts of a column's cells, from top to bottom."""
        return self.tab.evaluate(
            """([section, key]) => {
                const table = document.querySelector(`${section} table`);
                const place = [...table.tHead.rows[0].cells].findIndex((header) => header.dataset.key === key);
                return [...table.tBodies[0].rows].map((row) => row.cells[place].innerText);
            }""",
            [section, key],
        )

    def header(self, key: str, section: str = "#s0-runs") -> Any:
        return self.tab.locator(f"{section} thead th[data-key='{key}']")


@pytest.fixture
def look(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens a page, or the file at a path, and afterwards sees that the browser had nothing to complain about."""
    contexts, opened = [], []

    def begin(page: Page | Path, fragment: str = "", **context: Any) -> Opened:
        if isinstance(page, Page):
            path = tmp_path / "report.html"
            path.write_text(render_page(page), encoding="utf-8")
        else:
            path = page
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(30_000)
        found = Opened(tab)
        opened.append(found)
        tab.on(
            "console", lambda said: found.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        tab.on("pageerror", lambda error: found.complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (found.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda request: found.requests.append(request.url))
        tab.on("requestfailed", lambda request: found.refused.update({request.url: request.failure}))
        tab.goto(path.as_uri() + fragment)
        if context.get("java_script_enabled", True):
            tab.wait_for_selector("html[data-ready]", state="attached")
        return found

    yield begin
    for context in contexts:
        context.close()
    for found in opened:
        assert found.complaints == []
        assert all(url.startswith(("file://", "data:image/png;base64,")) for url in found.requests)
