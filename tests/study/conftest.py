"""Two tasks whose configurations are real and whose science is absent: studies never train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from ablate.depth.config import DepthConfig
from ablate.errors import StudyError
from ablate.study import Cell, Study, expand, load_study
from ablate.task import NOT_IDENTITY, Metric, RunSettings, SelectSettings, Settings

TEXT = """\
study: compressed
base:
  model: {name: dpt_hybrid, weights: weights/dpt.pt}
  data: {name: kitti, root: data/kitti, split: splits/eigen_full, resolution: [192, 640]}
  train: {epochs: 20, batch_size: 1, optimizer: adam, lr: 1e-5, loss: silog}
  eval: {resolutions: [full, reduced], mask: garg, select: {metric: abs_rel, split: val, resolution: reduced}}
grid:
  model.attention: [standard, performer, memory_compressed]
  model.compression: {values: [2, 3], when: {model.attention: memory_compressed}}
  train.lr: [1e-4, 1e-5]
exclude: [{model.attention: performer, train.lr: 1e-4}]
seeds: [0, 1, 2]
baseline: {model.attention: standard}
"""


class Knobs(Settings):
    a: int = Field(default=0, ge=0, le=99, description="The first knob.")
    b: int = Field(default=0, ge=0, le=99)
    c: int = Field(default=0, ge=0, le=99)
    d: float = 0.5
    on: bool = False
    label: str = "plain"
    file: Path | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    workers: int = Field(default=0, json_schema_extra=NOT_IDENTITY)


class Extra(Settings):
    n: int
    seed: int = 0


class Lenient(Settings):
    depth: int = 1


class ToyConfig(RunSettings):
    knobs: Knobs = Knobs()
    extra: Extra | None = None
    lenient: Lenient | None = None
    turned: Knobs = Knobs(a=7)

    @property
    def select(self) -> SelectSettings:
        return SelectSettings(metric="loss", resolution="full")


class BareTask:
    """The part of a task that studies use."""

    metrics = (Metric("d1", "d1", "max"), Metric("abs_rel", "AbsRel", "min"), Metric("rmse", "RMSE", "min"))
    recipe = 1

    def __init__(self, name: str, config: type[RunSettings], digests: Mapping[str, str]) -> None:
        self.name, self.Config, self.given = name, config, digests

    def digests(self, config: RunSettings) -> Mapping[str, str]:
        return self.given

    def slug(self, config: RunSettings) -> str:
        return f"Seed {config.seed}/x"


class DepthLike(BareTask):
    Lists: ClassVar[dict[str, str]] = {"train_files.txt": "ab" * 32}

    def __init__(self) -> None:
        super().__init__("depth", DepthConfig, self.Lists)


@pytest.fixture
def study_text() -> str:
    return TEXT


@pytest.fixture(scope="session")
def toy_config() -> type[Any]:
    return ToyConfig


@pytest.fixture
def make_task() -> Callable[..., Any]:
    return BareTask


@pytest.fixture(scope="session")
def tasks() -> dict[str, Any]:
    return {"depth": DepthLike(), "toy": BareTask("toy", ToyConfig, {})}


@pytest.fixture
def load(tmp_path: Path, tasks: dict[str, Any]) -> Callable[..., Study]:
    """Loads a study given as text, `study:` being added where it is missing."""

    def load(text: str, *overrides: str) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(text if text.startswith("study:") else f"study: test\n{text}", encoding="utf-8")
        return load_study(path, tasks, overrides)

    return load


@pytest.fixture
def cells(load: Callable[..., Study], tasks: dict[str, Any]) -> Callable[..., tuple[Cell, ...]]:
    def cells(text: str, *overrides: str) -> tuple[Cell, ...]:
        study = load(text, *overrides)
        return expand(study, tasks[study.task])

    return cells


@pytest.fixture
def refused(cells: Callable[..., tuple[Cell, ...]]) -> Callable[..., StudyError]:
    """The error of a study that must not load or expand; `study: test` is line 1 of what is given."""

    def refused(text: str, *overrides: str) -> StudyError:
        with pytest.raises(StudyError) as caught:
            cells(text, *overrides)
        assert caught.value.exit_code == 2
        return caught.value

    return refused
