"""One checkpoint evaluated as a run without training: a study of one cell, made in memory and added to a study's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablate.engine import plan as planning
from ablate.engine.launch import StudyPlan
from ablate.engine.plan import Action, Planned
from ablate.runs.paths import RunsDir
from ablate.study import Study, expand
from ablate.study.identity import run_name
from ablate.study.model import Axis, Source
from ablate.study.overrides import override
from ablate.study.settings import catalogue, nest
from ablate.task import Task


@dataclass(frozen=True)
class Asked:
    """What to evaluate, and as a row of which study.

    `base` are settings by dotted key; of `varying` ones the report has a column, which shows `shown` instead of the
    value where it says so. `name` is what the run's directory starts with.
    """

    study: str
    base: Mapping[str, Any]
    varying: Mapping[str, Any]
    shown: Mapping[str, Any]
    overrides: Sequence[str] = ()
    name: str | None = None


def plan_evaluation(asked: Asked, task: Task, runs: RunsDir) -> StudyPlan:
    """A plan of one run with `train.epochs: 0`; writes nothing. Raises StudyError, DataError."""
    base = {**asked.base, "train.epochs": 0}
    study = Study(
        study=asked.study,
        task=task.name,
        base=base,
        zip=tuple(Axis(key=key, values=(value,)) for key, value in asked.varying.items()),
        source=Source("ablate eval", _text(asked.study, {**base, **asked.varying})),
    )
    study = override(study, asked.overrides, catalogue(task.Config))
    (cell,) = expand(study, task)
    settings = {**cell.settings, **{key: value for key, value in asked.shown.items() if key in cell.settings}}
    cell = replace(cell, settings=settings, config=task.absolute(cell.config, Path.cwd()))
    [planned] = planning.plan([cell], task, runs)
    planned = _named(planned, asked.name, runs)
    return StudyPlan(study, task, (planned,), (planned,), joins=True)


def _named(planned: Planned, name: str | None, runs: RunsDir) -> Planned:
    """A run that is there already keeps its name."""
    if name is None or planned.action is not Action.NEW or planned.paths.root.exists():
        return planned
    identity = replace(planned.identity, name=run_name(name, planned.identity.run_id))
    return replace(planned, identity=identity, paths=runs.run(identity.name))


def _text(study: str, settings: Mapping[str, Any]) -> str:
    """A study file with this one cell, for the record."""
    import json

    return json.dumps({"study": study, "base": nest(settings)}, default=str, ensure_ascii=False, indent=1) + "\n"
