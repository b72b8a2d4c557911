"""What a report shows of its studies: charts, and panels of runs; as files for Markdown, as values for a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import RecordError
from ablate.report.charts.chart import Chart, clean
from ablate.report.charts.draw import svg
from ablate.report.charts.gather import gather
from ablate.report.charts.study import charts
from ablate.report.charts.theme import Theme
from ablate.report.details import Picture
from ablate.report.summary import RunSummary, StudySummary
from ablate.results.queries import Queries
from ablate.runs.panels import StoredPanels, read_panels
from ablate.runs.paths import RunPaths
from ablate.sheet import WIDTH, Row, Tile, sheet, tiles, to_png

MOST_RUNS = 24
"""So many runs get a picture of their own, and a row in the pictures that compare runs."""


@dataclass
class Written:
    """The pictures by the name of their study ('' for runs outside any), and what could not be drawn."""

    pictures: dict[str, tuple[Picture, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """One image of one run as it is shown, with its tiles in order: the layers, then `error`."""

    image: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Figures:
    """Everything that a page shows of a study: specifications of charts, and panels by run id, by epoch and split."""

    charts: tuple[Chart, ...]
    panels: Mapping[str, tuple[StoredPanels, ...]]
    folders: Mapping[str, Path]
    problems: tuple[str, ...]

    def shown(self, run_id: str, stored: StoredPanels, width: int = WIDTH) -> tuple[Shown, ...]:
        """The tiles of one entry of `panels`. Raises RecordError, naming the file, if one is damaged."""
        return shown(self.folders[run_id], stored, width)


def figures(summary: StudySummary, results: Queries) -> Figures:
    """Reads the manifests of panels and no picture yet; a run whose manifests are damaged is among the problems."""
    series = gather(results, summary)
    wanted = {run.run_id for run in summary.runs}
    rows = results.runs(summary.study) if summary.study else results.runs()
    folders = {
        row.run_id: RunPaths(row.directory).panels for row in rows if row.run_id in wanted and row.directory is not None
    }
    found: dict[str, tuple[StoredPanels, ...]] = {}
    problems = []
    for run_id, folder in folders.items():
        try:
            if stored := read_panels(folder):
                found[run_id] = stored
        except RecordError as error:
            problems.append(str(error))
    return Figures(charts(summary, series) if series else (), found, folders, tuple(problems))


def shown(folder: Path, stored: StoredPanels, width: int = WIDTH) -> tuple[Shown, ...]:
    return tuple(Shown(panel.image, tiles(folder, panel, width)) for panel in stored.images)


def reported(run: RunSummary, found: Sequence[StoredPanels]) -> StoredPanels | None:
    """The panels that belong to the numbers of a report: the selected epoch, on `test` if it was tested; else the newest."""
    best = [one for one in found if one.epoch == run.selected_epoch]
    split = next((score.split for score in run.scores if score.checkpoint == "selected"), None)
    exact = [one for one in best if one.split == split]
    return next(iter(exact or best), found[-1] if found else None)


def write_pictures(
    summaries: Sequence[StudySummary], results: Queries, folder: Path, theme: Theme = "light"
) -> Written:
    """Writes the pictures of a report into `folder`, which is made: charts as SVG, panels as PNG.

    Paths begin with the name of the folder, so that a report that lies beside it can refer to them. Raises OSError.
    """
    written = Written()
    for number, summary in enumerate(summaries):
        study = summary.study or ""
        place = folder / f"{number + 1}-{_slug(study or 'runs')}"
        found = figures(summary, results)
        written.problems += found.problems
        pictures = []
        for title, caption, name, data, run_id in _drawn(summary, found, theme, written.problems):
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
            pictures.append(Picture(title, caption, f"{folder.name}/{place.name}/{name}", run_id))
        written.pictures[study] = tuple(pictures)
    return written


def _drawn(
    summary: StudySummary, found: Figures, theme: Theme, problems: list[str]
) -> Iterator[tuple[str, str, str, bytes, str | None]]:
    """(title, caption, file name, content, run id)."""
    for chart in found.charts:
        yield chart.title, chart.caption, f"{chart.name}.svg", svg(chart, theme).encode(), None
    chosen = _chosen(summary, found)
    rows: dict[str, list[tuple[RunSummary, tuple[Tile, ...]]]] = {}
    sheets = []
    for run, stored in chosen:
        try:
            images = found.shown(run.run_id, stored)
        except RecordError as error:
            problems.append(str(error))
            continue
        for image in images:
            rows.setdefault(image.image, []).append((run, image.tiles))
        sheets.append((run, stored, to_png(sheet([Row(one.image, one.tiles) for one in images]))))
    for number, (name, members) in enumerate(rows.items(), start=1):
        if len(members) > 1:
            title = f"{clean(name)} in every run"
            picture = sheet([Row(run.name, found_tiles) for run, found_tiles in members])
            yield title, _caption(chosen[0][1], summary, len(members)), f"image-{number}.png", to_png(picture), None
    for run, stored, data in sheets:
        yield f"Panels of {clean(run.name)}", _caption(stored), f"panels-{_slug(run.run_id)}.png", data, run.run_id


def _chosen(summary: StudySummary, found: Figures) -> list[tuple[RunSummary, StoredPanels]]:
    pairs = ((run, reported(run, found.panels.get(run.run_id, ()))) for run in summary.runs)
    return [(run, stored) for run, stored in pairs if stored is not None and stored.images][:MOST_RUNS]


def _caption(stored: StoredPanels, summary: StudySummary | None = None, runs: int = 0) -> str:
    where = f"{stored.split} split, {stored.resolution} size"
    if summary is None:
        return f"After epoch {stored.epoch}, {where}. Grey is where there is no number."
    left = len(summary.runs) - runs
    more = f"; {left} runs have none, or are not drawn" if left > 0 else ""
    return f"Selected epoch of {runs} runs, {where}{more}. Colours mean the same in all rows; grey is where there is no number."


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"


__all__ = ["Figures", "Picture", "Shown", "Written", "figures", "reported", "shown", "write_pictures"]
