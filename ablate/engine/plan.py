"""What `ablate run` would do with each cell, and why."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ablate.errors import RecordError
from ablate.runs import directory, lease, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.directory import RunConfig, RunIdentity
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Reason, State
from ablate.study import Cell, Identity, canonical_json, identify
from ablate.study.identity import plain
from ablate.task import Position, RunSettings, Task


class Order(StrEnum):
    """Which cells are trained first."""

    PRIORITY = "priority"
    DECLARED = "declared"
    CHEAPEST = "cheapest"


class Action(StrEnum):
    """What happens to a cell."""

    DONE = "done"
    NEW = "new"
    RESUME = "resume"
    RETRY = "retry"
    FAILED = "failed"
    HELD = "held"
    DEFERRED = "deferred"

    @property
    def trains(self) -> bool:
        return self in (Action.NEW, Action.RESUME, Action.RETRY)


@dataclass(frozen=True)
class Planned:
    """A cell, the run it stands for, and what will be done about it."""

    cell: Cell
    identity: Identity
    paths: RunPaths
    action: Action
    why: str
    priority: float = 0.0
    memory: int = 0
    """Bytes that the run reserves on its device."""

    @property
    def architecture(self) -> str:
        """Equal for runs with the same model."""
        model = getattr(self.cell.config, "model", None)
        return "" if model is None else canonical_json(plain(model))

    @property
    def is_proven(self) -> bool:
        """Whether a run has shown that its model can be trained."""
        return self.action is Action.DONE or (self.action is not Action.NEW and has_checkpoint(self.paths))


def has_checkpoint(paths: RunPaths) -> bool:
    return position_of(paths) is not None


def in_order(planned: Sequence[Planned], order: Order, task: Task) -> list[Planned]:
    """Cells as they are to be trained; ties are left in declared order."""
    if order is Order.PRIORITY:
        return sorted(planned, key=lambda item: -item.priority)
    return sorted(planned, key=lambda item: cost(item, task)) if order is Order.CHEAPEST else list(planned)


def cost(planned: Planned, task: Task) -> float:
    """What is left of a run: parameters x training images still to be seen x pixels. Good for comparing, no more.

    Asks the task to build the network (which may load torch).
    """
    config = planned.cell.config
    described = task.describe(config)
    position = position_of(planned.paths)
    epochs = max(0, config.train.all_epochs() - (position.epoch - 1 if position else 0))
    images = float(epochs * config.train.images_per_epoch(described.images.get("train", 0)))
    if config.train.max_steps is not None:
        images = min(images, config.train.max_steps * config.train.images_per_step)
    resolution = getattr(getattr(config, "data", None), "resolution", None)
    pixels = math.prod(resolution) if isinstance(resolution, (tuple, list)) else 1
    return described.parameters * images * pixels


def plan(cells: Sequence[Cell], task: Task, runs: RunsDir) -> list[Planned]:
    """Looks at the run directory of every cell; writes nothing.

    Raises DataError if a file that is part of a run's identity is missing.
    """
    planned: dict[str, Planned] = {}
    there = {name.rpartition("-")[2]: name for name in runs.names()}
    for cell in cells:
        identity = identify(task, cell.config)
        if identity.run_id not in planned:  # two paths to the same weights make one run
            if identity.run_id in there and not runs.run(identity.name).root.is_dir():
                identity = replace(identity, name=there[identity.run_id])  # made under another name
            paths = runs.run(identity.name)
            planned[identity.run_id] = Planned(cell, identity, paths, *decide(paths))
    return list(planned.values())


def decide(paths: RunPaths) -> tuple[Action, str]:
    """What to do with one run, and why."""
    if not paths.identity.exists():
        return Action.NEW, "never started"
    try:
        directory.read_identity(paths)
        status = states.status(paths)
    except RecordError as error:  # one damaged run is no reason to leave the others untrained
        return Action.FAILED, f"damaged: {error}; put the file back, or remove {paths.root} to train the run anew"
    if status.state is State.COMPLETE:
        return Action.DONE, "complete"
    if status.state is State.RUNNING:
        return Action.HELD, f"held by {lease.holder(paths.lease) or 'another process'}"
    if status.state is State.FAILED:
        message = (status.message or "").partition("\n")[0]
        if status.reason is Reason.DIVERGED:
            return Action.FAILED, f"diverged: {message}; the same run would diverge again, `ablate resume` tries anyway"
        return Action.RETRY, f"failed ({status.reason}): {message}"
    position = position_of(paths)
    if status.state is State.PAUSED:
        where = f"from epoch {position.epoch}, step {position.step}" if position else "from the start"
        return Action.RESUME, f"{where} ({status.reason}: {status.message})"
    return (Action.RESUME, "checkpoint found") if position else (Action.NEW, "queued")


def position_of(paths: RunPaths) -> Position | None:
    """Where a run goes on from; None if it has no checkpoint that can be read."""
    for path in Checkpoints(paths.checkpoints).manifests():
        try:
            return Manifest.read(path).position
        except (OSError, RecordError):
            continue
    return None


def run_config(config: RunSettings, command: Sequence[str], wandb: Mapping[str, Any]) -> RunConfig:
    return RunConfig(config.model_dump(mode="json"), shlex.join(command), dict(wandb))


def create(planned: Planned, runs: RunsDir, task: Task, config: RunConfig) -> RunPaths:
    """Makes the directory of a planned run, or brings its configuration up to date."""
    identity = RunIdentity(
        run_id=planned.identity.run_id,
        hash=planned.identity.hash,
        name=planned.identity.name,
        task=task.name,
        recipe=task.recipe,
        settings=dict(planned.identity.settings),
        digests=dict(planned.identity.digests),
        created=0.0,
    )
    return directory.ensure_run(runs, identity, config)
