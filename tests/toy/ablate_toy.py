"""A task without torch that goes through the real engine: a few weights fitted to made-up points.

It is installed the way any third-party task is, by an entry point. `trouble` makes it fail on purpose.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from pydantic import Field

from ablate.errors import CheckpointError, DataError, OutOfMemoryError
from ablate.evaluated import Breakdown, Column, Layer, Panel, Shades, Subtracted, chosen
from ablate.task import (
    NOT_IDENTITY,
    Checked,
    Cost,
    Description,
    Evaluation,
    ImageScore,
    LoopSettings,
    Metric,
    PanelSettings,
    Part,
    Placement,
    Position,
    RunSettings,
    SelectSettings,
    Settings,
    Share,
    StepReport,
    Tick,
)


class ToyModel(Settings):
    width: int = 3
    bias: int | None = None


class ToyData(Settings):
    n: int = 8
    root: Path | None = Field(default=None, json_schema_extra=NOT_IDENTITY)


class ToyTrain(LoopSettings):
    lr: float = 0.1
    batch_size: int = 2

    @property
    def images_per_step(self) -> int:
        return self.batch_size


class ToyTrouble(Settings):
    """What goes wrong, at which optimiser step of the run, once or always."""

    kind: (
        Literal["crash", "oom", "memory", "nan", "negative", "explode", "hungry", "disk", "data", "exit", "kill"] | None
    ) = None
    step: int = 1
    once: Path | None = None
    """Only while this file does not exist; it is made first."""
    until: int = 10
    """How many rollbacks or rungs of the ladder mend it."""


class ToyEval(Settings):
    select: SelectSettings = SelectSettings(metric="abs_rel", split="val", resolution="full")
    panels: PanelSettings = PanelSettings(images=0)


class ToyConfig(RunSettings):
    model: ToyModel = ToyModel()
    data: ToyData = ToyData()
    train: ToyTrain = ToyTrain()
    eval: ToyEval = ToyEval()
    sleep: float = Field(default=0.0, description="Seconds per step.", json_schema_extra=NOT_IDENTITY)
    trouble: ToyTrouble = Field(default=ToyTrouble(), json_schema_extra=NOT_IDENTITY)

    @property
    def select(self) -> SelectSettings:
        return self.eval.select

    @property
    def shown(self) -> PanelSettings:
        return self.eval.panels


class _Numbers:
    """A component: a list of floats, as JSON."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def save(self, file: BinaryIO) -> None:
        file.write(json.dumps(self.values).encode())

    def load(self, file: BinaryIO) -> None:
        try:
            values = json.loads(file.read())
        except ValueError as error:
            raise CheckpointError(f"not numbers: {error}") from error
        self.values[:] = values


class ToySession:
    def __init__(self, config: ToyConfig) -> None:
        self.config = config
        draw = random.Random(f"init:{config.seed}")
        width = config.model.width
        self.weights = _Numbers([draw.uniform(-1, 1) for _ in range(width)])
        self.momentum = _Numbers([0.0] * width)
        self.components = {"weights": self.weights, "optimizer": self.momentum}
        self.facts: Mapping[str, Any] = {"parameters": width, "images": {"train": config.data.n, "val": 4, "test": 4}}
        self.splits = ("train", "val", "test")
        self.lr_factor = 1.0
        self.rung = 0

    def steps(self, epoch: int) -> int:
        return -(-self.config.data.n // self.config.train.batch_size)

    def batches(self, epoch: int, first_step: int) -> Iterator[list[int]]:
        order = list(range(self.config.data.n))
        random.Random(f"order:{self.config.seed}:{epoch}").shuffle(order)
        size = self.config.train.batch_size
        for step in range(first_step, self.steps(epoch)):
            yield order[step * size : (step + 1) * size]

    def step(self, batch: list[int], position: Position) -> StepReport:
        self._trouble((position.epoch - 1) * self.steps(1) + position.step + 1)
        time.sleep(self.config.sleep)
        noise = random.Random(f"step:{self.config.seed}:{position.epoch}:{position.step}")
        loss = 0.0
        for index in batch:
            x = self._point("train", index)
            error = self._predict(x) - self._truth(x)
            loss += error * error / len(batch)
            for i, value in enumerate(x):
                gradient = 2 * error * value / len(batch) + noise.gauss(0, 0.01)
                self.momentum.values[i] = 0.9 * self.momentum.values[i] + gradient
        for i, gradient in enumerate(self.momentum.values):
            self.weights.values[i] -= self.config.train.lr * self.lr_factor * 0.1 * gradient
        loss = self._spoilt(loss, (position.epoch - 1) * self.steps(1) + position.step + 1)
        return StepReport(
            loss, len(batch), self.config.train.lr * self.lr_factor, tuple(f"toy/{index}" for index in batch)
        )

    def _spoilt(self, loss: float, step: int) -> float:
        """A step at which the loss is wrong as long as the learning rate was not halved `until` times."""
        trouble = self.config.trouble
        if step != trouble.step or self.lr_factor <= 0.5**trouble.until:
            return loss
        return {"nan": float("nan"), "negative": -1.0, "explode": loss * 1e6}.get(trouble.kind or "", loss)

    def _trouble(self, step: int) -> None:
        trouble = self.config.trouble
        if trouble.kind == "hungry" and self.rung < trouble.until and step >= trouble.step:
            raise OutOfMemoryError("the toy needs 9 GiB")
        if trouble.kind is None or step != trouble.step or (trouble.once and trouble.once.exists()):
            return
        if trouble.once:
            trouble.once.touch()
        _TROUBLES.get(trouble.kind, lambda: None)()

    def _point(self, split: str, index: int) -> list[float]:
        draw = random.Random(f"point:{split}:{index}")
        return [draw.uniform(0.5, 2) for _ in range(self.config.model.width)]

    def _predict(self, x: Sequence[float]) -> float:
        return sum(weight * value for weight, value in zip(self.weights.values, x, strict=True))

    def _truth(self, x: Sequence[float]) -> float:
        return sum((i + 1) * value for i, value in enumerate(x))

    def evaluate(self, split: str, tick: Tick) -> Iterator[Evaluation]:
        for resolution in ("full", "reduced"):
            scores = []
            for index in range(4):
                tick()
                time.sleep(self.config.sleep)
                x = self._point(split, index)
                scores.append(ImageScore(f"{split}/{index}", self._score(self._predict(x), self._truth(x))))
            means = {key: sum(score.metrics[key] for score in scores) / 4 for key in scores[0].metrics}
            where = (split, resolution, means, means["abs_rel"], 4, 0, {"crop": "none"})
            panels = self._panels(split) if resolution == "full" else ()
            yield Evaluation(*where, tuple(scores), self._breakdown(split), panels)

    def _breakdown(self, split: str) -> Breakdown:
        points = [self._point(split, index) for index in range(4)]
        error = sum(abs(self._predict(x) - self._truth(x)) for x in points) / 4
        row = {"low": 0.0, "high": 20.0, "pixels": 4, "error": error}
        return Breakdown("truth", "m", (Column("pixels", "pixels"), Column("error", "error", "m")), (row,))

    def _panels(self, split: str) -> tuple[Panel, ...]:
        wanted = chosen(4, self.config.eval.panels.images)
        return tuple(self._panel(f"{split}/{index}", self._point(split, index)) for index in wanted)

    def _panel(self, image: str, x: list[float]) -> Panel:
        """Six by four pixels, the truth at every other one."""
        import numpy as np

        grey = np.full((4, 6, 3), int(100 * x[0]), np.uint8)
        truth = np.full((4, 6), self._truth(x), np.float32)
        truth[::2] = np.nan
        prediction = np.full((4, 6), max(0.1, self._predict(x)), np.float32)
        layers = (
            Layer("input", "image", grey, fixed=True),
            Layer("truth", "scalar", truth, "m", shades=Shades(1, 20), fixed=True),
            Layer("prediction", "scalar", prediction, "m", shades=Shades(1, 20)),
        )
        return Panel(image, layers, Subtracted("prediction", "truth", 5))

    def _score(self, prediction: float, truth: float) -> dict[str, float]:
        error = abs(prediction - truth)
        return {"d1": float(error < 0.25 * truth), "abs_rel": error / truth, "rmse": error}

    def enter(self, stage: int) -> None:
        self.stage = stage

    def scale_lr(self, factor: float) -> None:
        self.lr_factor = factor

    def lighten(self, rung: int) -> str | None:
        self.rung = rung
        return f"toy rung {rung}" if rung <= 2 else None

    def needs(self) -> int | None:
        return 9_000_000_000 // (1 + self.rung)

    def gradient_norms(self) -> Mapping[str, float]:
        return {"all": sum(value * value for value in self.momentum.values) ** 0.5}

    def peak_memory_mb(self) -> float | None:
        return 1.0

    def close(self) -> None:
        return None


def _raise(error: BaseException) -> Callable[[], None]:
    def trouble() -> None:
        raise error

    return trouble


def _exit() -> None:
    import os

    os._exit(7)


def _kill() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


_TROUBLES: dict[str, Callable[[], None]] = {
    "crash": _raise(RuntimeError("the toy broke")),
    "oom": _raise(OutOfMemoryError("the toy needs 9 GiB")),
    "memory": _raise(MemoryError()),
    "disk": _raise(OSError(28, "No space left on device")),
    "data": _raise(DataError("toy/3 cannot be read")),
    "exit": _exit,
    "kill": _kill,
}


class ToyTask:
    name: ClassVar[str] = "toy"
    recipe: ClassVar[int] = 1
    Config: ClassVar[type[RunSettings]] = ToyConfig
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("d1", "d1", "max"),
        Metric("abs_rel", "AbsRel", "min"),
        Metric("rmse", "RMSE", "min"),
    )

    def absolute(self, config: ToyConfig, root: Path) -> ToyConfig:
        return config

    def digests(self, config: ToyConfig) -> Mapping[str, str]:
        if config.data.root is None:
            return {}
        if not config.data.root.exists():
            raise DataError(f"{config.data.root}: missing; make it with `touch`")
        return {"root": str(config.data.root.stat().st_size)}

    def slug(self, config: ToyConfig) -> str:
        return f"toy-{config.model.width}-lr{config.train.lr:g}"

    def check(self, config: ToyConfig, cache_dir: Path | None, say: Callable[[str], None]) -> Checked:
        return Checked(notes=(), facts={"images": {"train": config.data.n}})

    def describe(self, config: ToyConfig) -> Description:
        return Description(config.model.width, (Part("all", config.model.width),), {"train": config.data.n})

    def shape(self, config: ToyConfig) -> str:
        return f"{config.model.width}"

    def cost(self, config: ToyConfig, cache_dir: Path | None, *, compute: bool) -> Cost | None:
        """A gigabyte per weight."""
        known = cache_dir / "toy-cost" if cache_dir else None
        if compute and known:
            known.parent.mkdir(parents=True, exist_ok=True)
            known.touch()
        if not (compute or (known and known.exists())):
            return None
        width = config.model.width
        return Cost(width * 10**9, width, 3 * width, (Share("the width", ("model.width",), 0.5),))

    def open(self, config: ToyConfig, placement: Placement) -> ToySession:
        return ToySession(config)
