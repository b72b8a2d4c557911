"""Summaries made by hand, and studies of several seeds written as the engine writes them, with one score per image."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.report.details import Details
from ablate.report.summary import RunSummary, Score, StudySummary, summarise
from ablate.results.open import open_results
from ablate.results.records import Origin, State
from ablate.runs.journal import Journal
from ablate.task import Metric, SelectSettings

METRICS = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"), Metric("rmse", "RMSE", "min"))
CODE = {"network dpt_tiny": "aaaaaaaaaa", "loss silog": "bbbbbbbbbb"}


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


@dataclass
class Arm:
    """What the runs of one setting are to be like. `error` is the AbsRel that its seeds scatter about."""

    settings: Mapping[str, Any]
    error: float = 0.1
    seeds: int = 3
    failed: int = 0
    """The last so many seeds diverge."""
    config: Mapping[str, Any] = field(default_factory=dict)
    opened: Mapping[str, Any] = field(default_factory=dict)
    val: float | None = None
    """AbsRel on validation; `error` if not given."""


@dataclass
class Lab:
    """Writes studies into a folder, and summarises them through a real database."""

    work: Any
    images: int = 24
    drives: int = 6
    spread: float = 0.002
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def study(
        self,
        arms: Sequence[Arm],
        baseline: int | None = 0,
        name: str = "one",
        baselines: Sequence[int | None] = (),
        **declared: Any,
    ) -> list[list[Any]]:
        """Runs of all arms, by arm and seed. `baselines` are places of arms; `declared` goes into the record: compare …"""
        runs = [[self.run(arm, seed) for seed in range(arm.seeds)] for arm in arms]
        of = baselines or [baseline] * len(arms)
        entries = [
            {"run_id": run.run_id, "name": run.paths.name, "position": next(self.numbers),
             "settings": dict(arm.settings), "seed": seed,
             "baseline": None if of[place] is None else runs[of[place]][seed].run_id}
            for place, (arm, row) in enumerate(zip(arms, runs, strict=True)) for seed, run in enumerate(row)
        ]  # fmt: skip
        axes = list(dict.fromkeys(key for arm in arms for key in arm.settings))
        self.work.study(name, [run for row in runs for run in row], axes=axes, cells=entries, **declared)
        return runs

    def run(self, arm: Arm, seed: int) -> Any:
        number = next(self.numbers)
        train = {"epochs": 3, "lr": 1e-4} | dict(arm.config.get("train", {}))
        config = {"seed": seed, "model": {}, "data": {}, **arm.config, "train": train}
        for key, value in arm.settings.items():
            place = config
            *groups, last = key.split(".")
            for group in groups:
                place[group] = dict(place.get(group, {}))
                place = place[group]
            place.setdefault(last, value)
        run = self.work.run(f"run-{number}", **config)
        run.attempt(facts={})
        run.event("checked", facts={"fingerprint": "f" * 64, "contents": "c" * 64})
        opened = {"parameters": 1000, "code": CODE, "shared_modules": [], "parts": [], **arm.opened}
        run.event("opened", facts=opened)
        if seed >= arm.seeds - arm.failed:
            run.outcome("failed", "diverged", "the loss is nan")
            return run
        run.epoch(1)
        drawn = np.random.default_rng([seed, number])
        offset = drawn.normal(0, self.spread)
        self._evaluate(run, "val", (arm.val if arm.val is not None else arm.error) + offset, drawn)
        run.event("selected", 1, epoch=1, value=0.1)
        self._evaluate(run, "test", arm.error + offset, drawn)
        run.event("completed", 1)
        run.outcome("complete")
        return run

    def _evaluate(self, run: Any, split: str, error: float, drawn: Any) -> None:
        per_drive = self.images // self.drives
        scores = []
        for image in range(self.images):
            of_image = np.random.default_rng([7, image]).normal(0, 0.02)
            value = max(1e-4, error + of_image + drawn.normal(0, 0.001))
            name = f"drive-{image // per_drive}/{image:03}.png"
            scores.append({"image": name, "metrics": {"d1": 1 - value, "abs_rel": value, "rmse": 20 * value}})
        means = {key: float(np.mean([one["metrics"][key] for one in scores])) for key in ("d1", "abs_rel", "rmse")}
        with Journal(run.paths.journal) as journal:
            journal.append("evaluation", 1, 3, {
                "split": split, "resolution": "reduced", "metrics": means, "loss": 0.25, "images": len(scores),
                "skipped": 0, "protocol": {"crop": "kb", "mask": "garg"}, "scores": scores,
            })  # fmt: skip

    def summary(self, name: str = "one", metrics: Sequence[Metric] = METRICS) -> StudySummary:
        with open_results(self.work.db, self.work.runs_dir) as results:
            (found,) = summarise(results, name, metrics)
        return found


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The run writer of tests/results; test folders are no packages, so it is loaded by its path."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    for name in ("sync", "sync_folder"):  # hundreds of small journals; what a power cut does is tested elsewhere
        monkeypatch.setattr(f"ablate.runs.disk.{name}", lambda _: None)
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    return Lab(module.Workplace(tmp_path))


@pytest.fixture
def make_arm() -> Callable[..., Arm]:
    return Arm
