"""A study as a report sees it, with numbers that a test can work out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ablate.evaluated import Breakdown, Column
from ablate.report.charts.gather import Course, Series, worst_images
from ablate.report.judgement import Arm, Front, Judgement
from ablate.report.stats.effects import interactions, main_effects
from ablate.report.stats.factors import Cell
from ablate.report.stats.seeds import failure_rate, over_seeds
from ablate.report.summary import RunSummary, Score, StudySummary
from ablate.results.records import State
from ablate.results.series import Speed
from ablate.task import Metric, SelectSettings

ABS_REL = Metric("abs_rel", "AbsRel", "min")
METRICS = (Metric("d1", "d1", "max"), ABS_REL, Metric("rmse", "RMSE", "min"))
SELECT = SelectSettings(metric="abs_rel", split="val", resolution="reduced")
COLUMNS = (
    Column("pixels", "pixels"), Column("abs_rel", "AbsRel"), Column("rmse", "RMSE", "m"),
    Column("bias", "mean signed error", "m"),
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    summary: StudySummary
    series: Series


def breakdown(scale: float) -> Breakdown:
    rows = [
        {"low": 10.0 * n, "high": 10.0 * n + 10, "pixels": 400_000 // (n + 1) ** 2, "abs_rel": scale * (1 + n / 4),
         "rmse": scale * (2 + 3 * n), "bias": scale * (2 - n)}
        for n in range(8)
    ]  # fmt: skip
    return Breakdown("ground-truth depth", "m", COLUMNS, tuple(rows))


def make(
    arms: int = 4, seeds: int = 3, epochs: int = 6, name: Callable[[str], str] = str, judged: bool = True
) -> Made:
    """Arms of two crossed axes; the last seed of the last arm has failed, if there are several."""
    draw = random.Random(1)
    attentions = ["standard", "performer", "memory_compressed", "nystrom", "window", "linear"]
    runs, courses, breakdowns, worst, speeds, splits = [], {}, {}, {}, {}, {}
    made, cells = [], []
    for number in range(arms):
        settings = {"model.attention": attentions[number // 2 % 6], "train.lr": [1e-4, 1e-5][number % 2]}
        label = name(f"{settings['model.attention']}, lr {settings['train.lr']:g}" + ("" if number < 12 else f" {number}"))
        values: list[float | None] = []
        for seed in range(seeds):
            failed = seeds > 1 and number == arms - 1 and seed == seeds - 1
            value = 0.1 + 0.01 * number + draw.gauss(0, 0.003)
            run_id = f"r{number:03}s{seed}"
            score = Score("selected", epochs - 1, "test", "reduced", {"d1": 0.9, "abs_rel": value, "rmse": 5.0}, 0.2, 652, 0, {})
            runs.append(RunSummary(
                run_id, f"{label}-{run_id}", settings, seed, None, State.FAILED if failed else State.COMPLETE, None, None,
                None if failed else epochs - 1, epochs, epochs, () if failed else (score,),
            ))  # fmt: skip
            values.append(None if failed else value)
            course = tuple((epoch, (0.3 + value) * 0.8**epoch + 0.01 * draw.random()) for epoch in range(1, epochs + 1))
            courses[run_id] = Course(
                course, tuple((e, v * 1.2) for e, v in course), tuple((e, v + value) for e, v in course),
                None if failed else epochs - 1,
            )  # fmt: skip
            speeds[run_id] = Speed(3.0 + number, 900.0 + 50 * number)
            if not failed:
                breakdowns[run_id] = breakdown(value)
                images = {f"2011_09_26/drive_{n:04}/{n:010}.png": value * (1 + draw.random()) for n in range(20)}
                worst[run_id] = worst_images(images, ABS_REL)
                splits[run_id] = "test"
        found = over_seeds(values)
        ids = tuple(f"r{number:03}s{seed}" for seed in range(seeds))
        costs = {"images_per_second": 3.0 + number % 5, "peak_memory_mb": 900.0 + 170 * (number % 7), "parameters": 4.2e6 * (1 + number)}
        made.append(Arm(label, settings, ids, {"abs_rel": found}, failure_rate(found.planned - found.n, found.planned), costs, None))
        cells.append(Cell(label, settings, tuple(value for value in values if value is not None)))
    axes = ("model.attention", "train.lr")
    judgement = Judgement(
        ABS_REL, "test", "reduced", "matched", tuple(made), (), (), {}, main_effects(cells, axes),
        interactions(cells, axes), Front(("abs_rel", "images_per_second"), (made[0].name,), ()), (), (),
    )  # fmt: skip
    summary = StudySummary(name("compressed"), "depth", "x.yaml", axes, METRICS, SELECT, tuple(runs), (), judgement if judged else None)
    return Made(summary, Series(ABS_REL, "reduced", "val", courses, breakdowns, worst, speeds, splits))


@pytest.fixture
def make_study() -> Callable[..., Made]:
    return make
