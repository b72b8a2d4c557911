"""Summaries made by hand: what reports are rendered from, without a run directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ablate.report.details import Details
from ablate.report.summary import RunSummary, Score, StudySummary
from ablate.results.records import Origin, State
from ablate.task import Metric, SelectSettings

METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"), Metric("rmse", "RMSE", "min"))


class Maker:
    """Makes scores, runs and studies; everything that is not given is what a complete run has."""

    metrics = METRICS

    def score(self, *values: float | None, resolution: str = "full", **changes: Any) -> Score:
        given = dict(zip((metric.key for metric in METRICS), values, strict=False))
        shared: dict[str, Any] = {"checkpoint": "selected", "epoch": 4, "split": "test", "loss": 0.25, "images": 652}
        rest = {"skipped": 0, "protocol": {"mask": "garg"}}
        return Score(**{**shared, **rest, "metrics": given, "resolution": resolution, **changes})

    def run(self, name: str, *scores: Score, **changes: Any) -> RunSummary:
        values: dict[str, Any] = {
            "run_id": name[-8:], "name": name, "settings": {}, "seed": 0, "baseline": None, "status": State.COMPLETE,
            "reason": None, "message": None, "selected_epoch": 4, "last_epoch": 5, "planned_epochs": 5,
            "scores": scores,
        }  # fmt: skip
        return RunSummary(**{**values, **changes})

    def study(self, *runs: RunSummary, axes: tuple[str, ...] = (), name: str | None = "compressed") -> StudySummary:
        select = SelectSettings(metric="abs_rel", split="val", resolution="full")
        return StudySummary(name, "depth", "studies/x.yaml", axes, METRICS, select, runs)

    def origin(self, row: int = 4, title: str = "Four (10 epochs) ~17h", **facts: Any) -> Origin:
        return Origin("progress log", "log.md", "a" * 64, row, title, ("seed",), facts)

    def details(self, **values: Any) -> Details:
        return Details(**values)


@pytest.fixture(scope="session")
def make() -> Maker:
    return Maker()


@pytest.fixture(scope="session")
def grid(make: Maker) -> StudySummary:
    """Two attentions at two learning rates."""
    cells = [
        ("std-a", "standard", 1e-4, (0.70, 0.20, 5.0)),
        ("std-b", "standard", 1e-5, (0.90, 0.10, 4.0)),
        ("per-a", "performer", 1e-4, (0.80, 0.30, 3.0)),
        ("per-b", "performer", 1e-5, (0.60, 0.15, 2.0)),
    ]  # fmt: skip
    runs = [
        make.run(
            name,
            make.score(*values),
            make.score(*(value / 2 for value in values), resolution="reduced"),
            settings={"model.attention": attention, "train.lr": lr},
            selected_epoch=5,
        )
        for name, attention, lr, values in cells
    ]
    return make.study(*runs, axes=("model.attention", "train.lr"))


@pytest.fixture(scope="session")
def rows() -> Callable[[str], list[list[str]]]:
    """The cells of every line of a Markdown text that belongs to a table."""
    return lambda text: [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
