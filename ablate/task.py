"""The contract between the engine, which trains anything, and a task, which is the science.

The engine owns the loop: order of steps, cadence, signals, checkpoints, journal, retries. A task says
what a step is. A task is found by its name among the installed entry points of the group
`ablate.tasks` (`name = "module:Class"`); a study file can only name it.

Importing this module must stay cheap: no torch, no pandas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ablate.described import Checked as Checked
from ablate.described import Cost as Cost
from ablate.described import Description as Description
from ablate.described import Part as Part
from ablate.described import Share as Share
from ablate.evaluated import Evaluation as Evaluation
from ablate.evaluated import ImageScore as ImageScore
from ablate.evaluated import Json as Json

NOT_IDENTITY: dict[str, Any] = {"identity": False}
"""`Field(json_schema_extra=NOT_IDENTITY)`: a setting that cannot change a result (a path, a cadence, a
worker count). It is left out of run ids and may change between the attempts of one run."""


class Settings(BaseModel):
    """Base of all configuration classes: frozen, unknown keys refused, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CheckpointSettings(Settings):
    every: str = Field(
        default="10min",
        description="Save this often within an epoch: '10min', '90s', '1h' or '500 steps'. Epoch ends always save.",
        json_schema_extra=NOT_IDENTITY,
    )
    keep_every: int | None = Field(
        default=None,
        ge=1,
        description="Keep the checkpoint of every so many epochs, beside the newest two and the best weights.",
        json_schema_extra=NOT_IDENTITY,
    )

    @field_validator("every")
    @classmethod
    def _parses(cls, every: str) -> str:
        parse_cadence(every)
        return every

    @property
    def cadence(self) -> tuple[float | None, int | None]:
        """(seconds, None) or (None, steps) between two checkpoints within an epoch."""
        return parse_cadence(self.every)


def parse_cadence(every: str) -> tuple[float | None, int | None]:
    """'10min' -> (600.0, None); '500 steps' -> (None, 500). Raises ValueError on anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|steps?)\s*", every)
    if not match or float(match[1]) <= 0:
        raise ValueError("expected a duration or a number of steps, such as '10min', '90s', '1h' or '500 steps'")
    number, unit = match[1], match[2]
    if not unit.startswith("step"):
        return float(number) * {"s": 1, "min": 60, "h": 3600}[unit], None
    if "." in number:
        raise ValueError("steps must be a whole number, such as '500 steps'")
    return None, int(number)


class EarlyStopping(Settings):
    patience: int = Field(ge=1, description="Stop after so many epochs in a row without a better value.")
    metric: str | None = Field(
        default=None, description="Of the validation at eval.select's resolution; eval.select.metric if not given."
    )


class DivergenceSettings(Settings):
    factor: float = Field(
        default=100.0, gt=1, description="A loss above so many times the median of recent losses is divergence."
    )
    window: int = Field(default=100, ge=10, description="How many recent steps the median is taken over.")
    rollbacks: int = Field(default=3, ge=1, description="How often `rollback` goes back before the run fails.")
    lr_factor: float = Field(default=0.5, gt=0, lt=1, description="What each rollback multiplies the learning rate by.")


class LoopSettings(Settings):
    """What the engine reads of `train`; a task's own class extends it."""

    epochs: int = Field(default=10, ge=0, description="Passes over the training images.")
    max_steps: int | None = Field(default=None, ge=1, description="Stop after this many optimiser steps in all.")
    early_stopping: EarlyStopping | None = Field(default=None, description="Stop once validation no longer improves.")
    divergence: DivergenceSettings = DivergenceSettings()
    on_divergence: Literal["fail", "rollback"] = Field(
        default="fail",
        description="`rollback`: train the epoch again from its start at a lower learning rate.",
    )
    on_oom: Literal["fail", "ladder"] = Field(
        default="fail",
        description="`ladder`: out of memory, train the same batches in smaller pieces, then recompute activations.",
        json_schema_extra=NOT_IDENTITY,  # the gradient stays the same, up to rounding; what was done is recorded
    )
    checkpoint: CheckpointSettings = CheckpointSettings()

    def all_epochs(self) -> int:
        """Epochs of all stages; they are numbered through."""
        return self.epochs

    def why_not_longer(self) -> str | None:
        """Why a finished run with these settings is not the beginning of a longer one; None if it is."""
        return None

    def images_per_epoch(self, images: int) -> int:
        """Training images that an epoch sees of a data set that has so many."""
        return images

    @property
    def images_per_step(self) -> int:
        """Images that an optimiser step sees."""
        return 1

    def stage_of(self, epoch: int) -> int:
        """The stage (from 0) that an epoch (from 1) belongs to."""
        return 0


class SelectSettings(Settings):
    """Which epoch a run is reported from: the best `metric` on `split` at `resolution`."""

    metric: str
    split: str = "val"
    resolution: str


class PanelSettings(Settings):
    """Which images of an evaluated split are kept as panels, and of which epochs."""

    images: int = Field(
        default=4,
        ge=0,
        le=64,
        description="So many images of each evaluated split are kept as pictures, always the same ones; 0 for none.",
        json_schema_extra=NOT_IDENTITY,
    )
    epochs: Literal["selected", "every"] | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default="selected",
        description="Of the selected and the last epoch; with `every` of all, with a list of these as well.",
        json_schema_extra=NOT_IDENTITY,
    )


class RunSettings(Settings):
    """What the engine reads of a run's configuration; a task's `Config` extends it.

    A task's class narrows `train` to a subclass of `LoopSettings`.
    """

    plugins: ClassVar[Mapping[str, str | None]] = {}
    """Groups of entry points of which other packages bring what runs use: the setting that names one, or None where
    every run uses all."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="Set by `seeds:` in a study.")
    train: LoopSettings = LoopSettings()

    @property
    def select(self) -> SelectSettings:
        raise NotImplementedError

    @property
    def shown(self) -> PanelSettings:
        """What is kept of the panels that evaluations give."""
        return PanelSettings(images=0)

    def own_value(self, key: str) -> Json:
        """What a setting that is null, or was made null because it says nothing new, stands for; None for nothing.

        Studies show it where the setting is an axis.
        """
        return None


Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Metric:
    """A number that an evaluation gives: its key, its column header, and which way is better."""

    key: str
    header: str
    better: Direction


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` optimiser steps of `epoch` (from 1) are done in `stage` (from 0).

    `step == steps(epoch)` means that the epoch is trained and not yet evaluated.
    """

    stage: int
    epoch: int
    step: int


@dataclass(frozen=True)
class Placement:
    """Where an attempt runs."""

    device: str = "cpu"
    threads: int = 1
    cache_dir: Path | None = None
    """A folder that tasks may share and anyone may delete (verified file lists and the like)."""


@dataclass(frozen=True)
class StepReport:
    """One optimiser step: the loss before the update, how many images it used, and which."""

    loss: float
    images: int
    lr: float
    samples: tuple[str, ...] = ()


class Component(Protocol):
    """State that a checkpoint holds, written to and read from one file of its own."""

    def save(self, file: BinaryIO) -> None: ...

    def load(self, file: BinaryIO) -> None:
        """Raises CheckpointError if the file is not what `save` wrote. Never executes what it reads."""
        ...


Tick = Callable[[], None]
"""Called by a session between two images; raises to stop an evaluation that was interrupted."""


class Session(Protocol):
    """A configuration made ready to train on a device."""

    components: Mapping[str, Component]
    """`weights` is all that evaluation needs; whatever else a resume needs is dropped on completion."""
    facts: Mapping[str, Json]
    """Stored with the attempt: parameters, images per split, shared modules, library versions.

    `notes`, a list of lines, is written to the run's log; `parts` holds `Part`s as mappings.
    """
    splits: tuple[str, ...]
    """Splits that have images, of `train`, `val` and `test`."""

    def steps(self, epoch: int) -> int:
        """Optimiser steps in `epoch`."""
        ...

    def batches(self, epoch: int, first_step: int) -> Iterator[Any]:
        """The batches of `epoch` from step `first_step` on: a pure function of seed, epoch and step."""
        ...

    def step(self, batch: Any, position: Position) -> StepReport:
        """One optimiser step, after `position.step` of the epoch; seeds every generator first. Raises DivergedError."""
        ...

    def evaluate(self, split: str, tick: Tick) -> Iterator[Evaluation]:
        """One evaluation per resolution; changes no state that a checkpoint holds."""
        ...

    def enter(self, stage: int) -> None:
        """Trains `stage` from here on, with a fresh optimiser: called before its first step and before a restore."""
        ...

    def scale_lr(self, factor: float) -> None:
        """Multiplies the learning rate of every step from here on by `factor`, which replaces an earlier one."""
        ...

    def lighten(self, rung: int) -> str | None:
        """Trains the same batches in less memory, from opening on: what rung 1, 2, … does; None if there is none."""
        ...

    def needs(self) -> int | None:
        """Bytes that a step needs at its peak, as it is trained now, for a ladder that ends; None if it cannot tell."""
        ...

    def gradient_norms(self) -> Mapping[str, float]:
        """Norms of the last step's gradient by part of the network; asked for after every step."""
        ...

    def peak_memory_mb(self) -> float | None:
        """Peak memory of the device, or of this process on a CPU, since the session was opened (MiB)."""
        ...

    def close(self) -> None: ...


class Task(Protocol):
    """One kind of experiment. Everything but `describe` and `open` must work without torch. `title` is optional."""

    name: ClassVar[str]
    recipe: ClassVar[int]
    """Raised whenever the same configuration would give other numbers: part of every run id."""
    Config: ClassVar[type[RunSettings]]
    metrics: ClassVar[Sequence[Metric]]
    """In the order of the report's columns."""

    def absolute(self, config: RunSettings, root: Path) -> RunSettings:
        """The configuration with every path made absolute, relative ones being under `root`."""
        ...

    def digests(self, config: RunSettings) -> Mapping[str, str]:
        """SHA-256 of the small files that decide the result (split lists, weights), for the run id.

        Raises DataError, naming the file and the remedy, if one is missing.
        """
        ...

    def slug(self, config: RunSettings) -> str:
        """A short readable name from the run's own settings: `mem-com-2-lr1e-5`. Need not be unique."""
        ...

    def check(self, config: RunSettings, cache_dir: Path | None, say: Callable[[str], None]) -> Checked:
        """Looks at every file that training will read. Raises one DataError that names all bad ones."""
        ...

    def describe(self, config: RunSettings) -> Description: ...

    def shape(self, config: RunSettings) -> str:
        """Equal for configurations whose optimiser steps need the same memory and take the same time."""
        ...

    def cost(self, config: RunSettings, cache_dir: Path | None, *, compute: bool) -> Cost | None:
        """What is known of a step of this shape. Estimated if `compute`, which may take a minute; else never slow.

        None if nothing is known, or if the task cannot tell. `cache_dir` is as in `Placement`.
        """
        ...

    def open(self, config: RunSettings, placement: Placement) -> Session: ...
