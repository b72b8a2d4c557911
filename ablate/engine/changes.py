"""What is different about a study since it was run last: which settings, which cells, and why each is what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ablate.engine.halt import read_record
from ablate.engine.launch import StudyPlan
from ablate.engine.plan import Planned
from ablate.engine.tasks import Tasks
from ablate.errors import AblateError, RecordError
from ablate.runs import states
from ablate.runs.paths import RunsDir
from ablate.study import Study
from ablate.study.estimand import read_estimand
from ablate.study.overrides import override
from ablate.study.parse import parse
from ablate.study.record import CellRecord, StudyRecord
from ablate.study.settings import catalogue, freeze
from ablate.study.yaml import parse_document, shown


class Kind(StrEnum):
    NEW = "new"
    GONE = "stale"
    """Only an earlier version of the study holds it: its results stay."""
    SAME = "unchanged"


@dataclass(frozen=True)
class CellChange:
    """A cell, what has become of it, and why."""

    kind: Kind
    run_id: str
    name: str
    why: str


@dataclass(frozen=True)
class Changes:
    """`settings` are sentences, in the order of the study; `cells` those of the study, then those that are gone."""

    declared: float
    settings: tuple[str, ...]
    cells: tuple[CellChange, ...]

    def kind(self, run_id: str) -> Kind | None:
        return next((cell.kind for cell in self.cells if cell.run_id == run_id), None)

    def __bool__(self) -> bool:
        return bool(self.settings) or any(cell.kind is not Kind.SAME for cell in self.cells)


def since_last_run(plan: StudyPlan) -> Changes | None:
    """None if the study was never run here. Raises RecordError if its record is damaged."""
    runs = RunsDir(plan.cells[0].paths.root.parent)
    before = read_record(runs, plan.study.study)
    if before is None or (before.cells and all(cell.added for cell in before.cells)):
        return None  # what was imported or evaluated on its own is no version of this study
    return compare(before, plan, runs)


def compare(before: StudyRecord, plan: StudyPlan, runs: RunsDir) -> Changes:
    earlier = [cell for cell in before.cells if cell.current and not cell.added]
    differ = _Differences(before, earlier, plan)
    known, held = {cell.run_id for cell in earlier}, {item.identity.run_id for item in plan.cells}
    once = {cell.run_id for cell in before.cells if not cell.current}
    cells = [_present(item, known, once, differ) for item in plan.cells]
    cells += [_gone(cell, runs, differ) for cell in earlier if cell.run_id not in held]
    return Changes(before.declared, tuple(differ.sentences()), tuple(cells))


def _present(item: Planned, known: set[str], once: set[str], differ: _Differences) -> CellChange:
    identity = item.identity
    action = f"{item.action}: {item.why}"
    if identity.run_id in known:
        return CellChange(Kind.SAME, identity.run_id, identity.name, action)
    why = differ.why(item.cell.settings, item.cell.seed, added=True)
    if identity.run_id in once:
        why += ", as in an earlier version of the study"
    return CellChange(Kind.NEW, identity.run_id, identity.name, f"{why}; {action}")


def _gone(cell: CellRecord, runs: RunsDir, differ: _Differences) -> CellChange:
    try:
        state = str(states.status(runs.run(cell.name)).state)
    except RecordError as error:
        state = str(error)
    why = differ.why(cell.settings, cell.seed, added=False)
    kept = "never trained" if state == "queued" else f"{state}; what it has stays"
    return CellChange(Kind.GONE, cell.run_id, cell.name, f"{why}; {kept}")


class _Differences:
    """What was edited: values of axes, seeds, settings that all cells share, and how the best epoch is selected."""

    def __init__(self, before: StudyRecord, earlier: Sequence[CellRecord], plan: StudyPlan) -> None:
        now = [item.cell for item in plan.cells]
        self.axes = tuple(dict.fromkeys((*plan.study.axes, *before.axes)))
        old, new = _values(cell.settings for cell in earlier), _values(cell.settings for cell in now)
        self.added = {axis: _without(new.get(axis, {}), old.get(axis, {})) for axis in self.axes}
        self.removed = {axis: _without(old.get(axis, {}), new.get(axis, {})) for axis in self.axes}
        self.new_axes = {axis for axis in self.axes if axis in new and axis not in old}
        self.gone_axes = {axis for axis in self.axes if axis in old and axis not in new}
        old_seeds, new_seeds = ({cell.seed for cell in cells} for cells in (earlier, now))
        self.seeds = {True: new_seeds - old_seeds, False: old_seeds - new_seeds}
        self.base = _base(before, plan.study)
        self.select = _select(before, plan)
        self.concluded = _concluded(before, plan.study)

    def sentences(self) -> Iterator[str]:
        for axis in self.axes:
            if axis in self.new_axes:
                yield f"{axis}: varies now, {_list(self.added[axis])}"
            elif axis in self.gone_axes:
                yield f"{axis}: varies no longer, was {_list(self.removed[axis])}"
            else:
                parts = [("added", self.added[axis]), ("removed", self.removed[axis])]
                if said := [f"{_list(values)} {word}" for word, values in parts if values]:
                    yield f"{axis}: {', '.join(said)}"
        seeds = [("added", self.seeds[True]), ("removed", self.seeds[False])]
        if said := [f"{', '.join(map(str, sorted(numbers)))} {word}" for word, numbers in seeds if numbers]:
            yield f"seeds: {', '.join(said)}"
        yield from self.base
        yield from self.select
        yield from self.concluded

    def why(self, settings: Mapping[str, Any], seed: int, *, added: bool) -> str:
        """Why a cell is new, or gone."""
        values = self.added if added else self.removed
        word = "is new" if added else "was removed"
        for axis, value in settings.items():
            if freeze(value) in values.get(axis, {}):
                return f"{axis}={shown(value)} {word}"
        if seed in self.seeds[added]:
            return f"seed {seed} {word}"
        axes = self.gone_axes if added else self.new_axes
        edited = [axis for axis in self.axes if axis in axes]
        if edited or self.base:
            return "; ".join(
                [*(f"{axis} {'no longer varies' if added else 'varies now'}" for axis in edited), *self.base]
            )
        if any(self.added.values()) or any(self.removed.values()) or any(self.seeds.values()) or self.select:
            return f"this combination {word}"
        return "an input file or the recipe changed, or what the study leaves out"


def _values(cells: Iterable[Mapping[str, Any]]) -> dict[str, dict[Any, Any]]:
    """Frozen value -> value, of every axis."""
    found: dict[str, dict[Any, Any]] = {}
    for settings in cells:
        for axis, value in settings.items():
            found.setdefault(axis, {}).setdefault(freeze(value), value)
    return found


def _without(values: Mapping[Any, Any], others: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in values.items() if key not in others}


def _list(values: Mapping[Any, Any]) -> str:
    return ", ".join(shown(value) for value in values.values())


def _base(before: StudyRecord, now: Study) -> tuple[str, ...]:
    """'train.epochs 2 → 3' for settings that all cells share; nothing if the earlier text cannot be read any more."""
    try:
        tasks = Tasks()
        document = parse_document(before.text, before.file)
        if not isinstance(document.data, dict):
            return ()
        old = parse(document, tasks)
        old = override(old, before.overrides, catalogue(tasks[old.task].Config))
    except (AblateError, KeyError):
        return ()
    keys = [key for key in dict.fromkeys((*now.base, *old.base)) if key not in {*old.axes, *now.axes}]
    return tuple(
        f"{key} {_base_value(old, key)} → {_base_value(now, key)}"
        for key in keys
        if freeze(old.base.get(key)) != freeze(now.base.get(key))
    )


def _base_value(study: Study, key: str) -> str:
    return shown(study.base[key]) if key in study.base else "default"


def _concluded(before: StudyRecord, now: Study) -> tuple[str, ...]:
    """What reports conclude: no cell changes with it, and the next `ablate run` takes it over."""
    said = [("metric", before.metric, now.metric), ("compare", read_estimand(before.compare).text, now.compare.text)]
    none = "that of eval.select"
    return tuple(f"{key} {old or none} → {new or none}" for key, old, new in said if old != new)


def _select(before: StudyRecord, plan: StudyPlan) -> tuple[str, ...]:
    now = plan.cells[0].cell.config.select.model_dump(mode="json")
    return tuple(
        f"best epoch by {key} {before.select.get(key)} → {value}"
        for key, value in now.items()
        if before.select.get(key) != value
    )
