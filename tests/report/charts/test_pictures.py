"""From a study that was trained to the pictures of its report."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.report.charts.gather import gather
from ablate.report.charts.pictures import figures, reported, write_pictures
from ablate.report.summary import StudySummary, summarise
from ablate.results.open import Results, open_results
from ablate.runs.panels import StoredPanels
from ablate.sheet import Row, readable, sheet, tiles
from ablate.task import Metric

ROOT = Path(__file__).parents[3]
METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"), Metric("rmse", "RMSE", "min"))
STUDY = """\
study: toys
task: toy
seeds: [0, 1]
base: {train: {epochs: 3}, eval: {panels: {images: 2}}}
grid: {model.width: [2, 3]}
baseline: {model.width: 2}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "toys.yaml").write_text(STUDY)
    command = [sys.executable, str(ROOT / "cli.py"), "run", "toys.yaml", "--workers", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def results(trained: Path) -> Iterator[Results]:
    with open_results(trained / "results.duckdb", trained / "runs", wait=10) as found:
        yield found


@pytest.fixture
def summary(results: Results) -> StudySummary:
    (found,) = summarise(results, "toys", METRICS)
    return found


def test_what_is_gathered_is_what_the_runs_recorded(results: Results, summary: StudySummary) -> None:
    series = gather(results, summary)
    assert series is not None
    assert (series.metric.key, series.resolution, series.select_split) == ("abs_rel", "full", "val")
    for run in summary.runs:
        course = series.courses[run.run_id]
        assert course.train_loss == tuple((row.epoch, row.train_loss) for row in results.epochs(run.run_id))
        rows = [row for row in results.evaluations(run.run_id) if (row.split, row.resolution) == ("val", "full")]
        assert course.value == tuple((row.epoch, row.metrics["abs_rel"]) for row in rows)
        assert course.val_loss == tuple((row.epoch, row.loss) for row in rows)
        assert course.selected == run.selected_epoch
        assert series.breakdowns[run.run_id].rows[0]["pixels"] == 4
        score = run.score("selected", "full")
        assert score is not None and series.splits[run.run_id] == score.split == "test"
        _, scores = results.rows(
            "SELECT image, abs_rel FROM image_metrics WHERE run_id = ? AND epoch = ? AND split = 'test' AND "
            "resolution = 'full' ORDER BY abs_rel DESC",
            [run.run_id, score.epoch],
        )
        assert [(one.image, one.value) for one in series.worst[run.run_id]] == scores
        assert series.speeds[run.run_id].peak_memory_mb == 1.0


def test_numbers_of_different_splits_never_share_a_chart(results: Results, summary: StudySummary) -> None:
    """A run that is not tested yet has been scored on other images than the others."""
    first, *others = summary.runs
    untested = replace(first, scores=tuple(replace(score, split="val") for score in first.scores))
    series = gather(results, replace(summary, runs=(untested, *others)))
    assert series is not None
    assert set(series.splits.values()) == {"test"}
    assert first.run_id not in {*series.worst, *series.breakdowns}
    assert {run.run_id for run in others} == set(series.worst) == set(series.breakdowns)


def test_pictures_are_written_beside_the_report_and_its_links_lead_to_them(
    results: Results, summary: StudySummary, tmp_path: Path
) -> None:
    folder = tmp_path / "report.figures"
    written = write_pictures([summary], results, folder)
    assert not written.problems
    pictures = written.pictures["toys"]
    assert {picture.title for picture in pictures} >= {"Learning curves", "Error by truth", "Worst images"}
    assert {picture.run_id for picture in pictures if picture.run_id} == {run.run_id for run in summary.runs}
    assert sum(picture.title.endswith("in every run") for picture in pictures) == 2
    for picture in pictures:
        path = tmp_path / picture.path
        assert not Path(picture.path).is_absolute() and ".." not in picture.path
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            with Image.open(path) as image:
                assert image.format == "PNG"
    before = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    write_pictures([summary], results, folder)
    assert {path.name: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_panels_belong_to_the_numbers_of_the_report(results: Results, summary: StudySummary) -> None:
    found = figures(summary, results)
    for run in summary.runs:
        stored = reported(run, found.panels[run.run_id])
        assert stored is not None
        assert (stored.epoch, stored.split) == (run.selected_epoch, "test")
        shown = found.shown(run.run_id, stored)
        assert [one.image for one in shown] == ["test/1", "test/3"]
        assert [tile.name for tile in shown[0].tiles] == ["input", "truth", "prediction", "error"]
    val_only = [one for one in found.panels[summary.runs[0].run_id] if one.split == "val"]
    assert reported(summary.runs[0], val_only) in val_only
    assert reported(summary.runs[0], ()) is None


def test_damaged_pictures_are_named_and_the_others_are_written(
    results: Results, summary: StudySummary, tmp_path: Path
) -> None:
    found = figures(summary, results)
    first, second = summary.runs[0], summary.runs[1]
    stored = reported(first, found.panels[first.run_id])
    assert stored is not None
    layer = found.folders[first.run_id] / stored.images[0].layers[2].file
    manifest = found.folders[second.run_id] / f"{second.selected_epoch:06d}.test.json"
    saved = {path: path.read_bytes() for path in (layer, manifest)}
    try:
        layer.write_bytes(b"torn")
        manifest.write_text("{")
        written = write_pictures([summary], results, tmp_path / "figures")
    finally:
        for path, data in saved.items():
            path.write_bytes(data)
    assert any(layer.name in problem for problem in written.problems)
    assert any(manifest.name in problem for problem in written.problems)
    of_runs = {picture.run_id for picture in written.pictures["toys"] if picture.run_id}
    assert of_runs == {run.run_id for run in summary.runs[2:]}


def test_the_error_is_the_difference_in_colours_of_its_sign(results: Results, summary: StudySummary) -> None:
    found = figures(summary, results)
    run = summary.runs[0]
    stored = reported(run, found.panels[run.run_id])
    assert stored is not None
    input_, truth, prediction, error = tiles(found.folders[run.run_id], stored.images[0])
    assert input_.scale is None
    assert truth.scale == prediction.scale or truth.scale is not None
    assert error.scale is not None and error.scale.diverging and (error.scale.low, error.scale.high) == (-5, 5)
    assert (error.picture[0] == 128).all(), "no truth, no error"
    below = prediction.scale is not None
    red, _, blue = (int(part) for part in error.picture[1, 0])
    dark_p, dark_t = (int(tile.picture[1, 0].sum()) for tile in (prediction, truth))
    assert below and ((blue > red) if dark_p > dark_t else (red >= blue)), (
        "near is light: a lighter prediction is too near"
    )


def test_shrinking_keeps_single_measurements_and_makes_none_up() -> None:
    depth = np.full((60, 300), np.nan, np.float32)
    depth[30, ::30] = 7.0
    shown = readable(depth, 100)
    assert shown.shape == (20, 100)
    assert set(np.unique(shown[np.isfinite(shown)])) == {7.0}
    assert np.isfinite(shown).sum() == 10 * 9 - 3, "each dot is three pixels wide; the first lies at the edge"
    dense = np.arange(18000, dtype=np.float32).reshape(60, 300)
    assert set(np.unique(readable(dense, 100))) <= set(np.unique(dense))
    assert np.isnan(readable(np.full((4, 4), np.nan, np.float32), 2)).all()


def test_a_sheet_holds_tiles_of_different_sizes_and_long_names(results: Results, summary: StudySummary) -> None:
    found = figures(summary, results)
    run = summary.runs[0]
    stored = reported(run, found.panels[run.run_id])
    assert stored is not None
    row = tiles(found.folders[run.run_id], stored.images[0])
    picture = sheet([Row("x" * 500 + "\x00\u202e", row), Row("short", row[:2]), Row("none", ())])
    assert picture.width < 200
    assert sheet([]).height > 0


def test_the_newest_panels_stand_in_where_nothing_was_selected(summary: StudySummary) -> None:
    run = replace(summary.runs[0], selected_epoch=None)
    stored = StoredPanels(7, "val", "full", ())
    assert reported(run, (StoredPanels(2, "val", "full", ()), stored)) is stored
