"""From a study to its cells: `((grid x zip) + ablate - exclude) x seeds`, in declared order.

The first axis varies slowest and the seed fastest. An axis comes after those that its `when` names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from ablate.errors import StudyError
from ablate.study.axes import Step, assignments, count, frozen_conditions, steps
from ablate.study.identity import cell_key, plain
from ablate.study.model import Study, explain
from ablate.study.remarks import notes_of, unknown_of
from ablate.study.settings import Catalogue, catalogue, freeze, lookup, nest
from ablate.study.yaml import Trail, shown
from ablate.task import RunSettings, Task

MAX_CELLS = 100_000
_UNKNOWN = object()


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    `settings` holds the value of every axis that exists in the cell, `baseline` the position of the cell that
    reports compare it with (itself, if it is one). `notes` and `unknown` are what the study says for people to read.
    """

    position: int
    settings: Mapping[str, Any]
    seed: int
    config: RunSettings = field(repr=False)
    baseline: int | None = None
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Dotted keys of settings that the source of the cell does not state."""


@dataclass(frozen=True)
class Expansion:
    """The cells of a study, how many were `merged` into an equal one and how many were `excluded`."""

    cells: tuple[Cell, ...]
    merged: int
    excluded: int


def expand(study: Study, task: Task, max_cells: int = MAX_CELLS) -> tuple[Cell, ...]:
    """The cells of a study, in order, each once. Raises StudyError as `expansion` does."""
    return expansion(study, task, max_cells).cells


def expansion(study: Study, task: Task, max_cells: int = MAX_CELLS) -> Expansion:
    """The cells of a study, with counts. Raises StudyError if they are too many, none, or one is not valid."""
    expander = _Expander(study, task)
    expander.check_size(max_cells)
    return expander.expansion()


@dataclass(frozen=True)
class _Draft:
    """What a cell sets, seed aside; `entry` is its index in `ablate`, if it is from there."""

    assigned: Mapping[str, Any]
    entry: int | None = None


class _Expander:
    def __init__(self, study: Study, task: Task) -> None:
        self.study, self.Config = study, task.Config
        self.known: Catalogue = catalogue(task.Config)
        self.steps: list[Step] = steps(study.grid, study.zip)
        self.conditions = {axis.key: Step(({},), frozen_conditions(axis)) for axis in study.grid if axis.when}
        self.exclude = [
            {key: frozenset(freeze(value) for value in values) for key, values in entry.items()}
            for entry in study.exclude
        ]
        self.axes = study.axes
        self.product_axes = {axis.key for axis in (*study.grid, *study.zip)}
        self.late = any(key not in study.base or key in self.known.groups for entry in self.exclude for key in entry)
        try:
            self.base: RunSettings | None = task.Config.model_validate(nest(study.base))
        except ValidationError:  # `base` may need what an axis gives
            self.base = None

    def fixed(self, key: str) -> Any:
        """The value of a setting in a cell that does not set it."""
        if key in self.study.base:
            return self.study.base[key]
        return lookup(self.base, key) if self.base is not None else self.known.default(key)

    def check_size(self, max_cells: int) -> None:
        product, exact = count(self.steps, self.fixed, max(max_cells, MAX_CELLS))
        cells = (product + sum(bool(entry) for entry in self.study.ablate)) * len(self.study.seeds)
        if cells > max_cells:
            before = " before exclusions" if self.exclude else ""
            raise StudyError(
                f"{'' if exact else 'up to '}{cells:,} cells{before}, more than {max_cells:,}",
                file=self.study.source.file,
                hint=f"remove some values, or allow them with --max-cells {cells}",
            )

    def drafts(self) -> Iterator[_Draft]:
        for assigned in assignments(self.steps, self.fixed):
            yield _Draft(assigned)
        for index, entry in enumerate(self.study.ablate):
            if entry:
                yield _Draft(entry, index)

    def expansion(self) -> Expansion:
        cells: dict[Hashable, Cell] = {}
        sources: list[_Draft] = []
        merged = excluded = 0
        for draft in self.drafts():
            out = self.is_excluded(draft, None)
            for seed in self.study.seeds:
                config = None if out else self.config(draft, seed)
                if config is None or (self.late and self.is_excluded(draft, config)):
                    excluded += 1
                    continue
                key = cell_key(config)
                if key in cells:
                    merged += 1
                    continue
                cells[key] = self.remarked(Cell(len(cells), self.settings(draft, config), seed, config))
                sources.append(draft)
        if not cells:
            raise StudyError("`exclude` leaves no cell", file=self.study.source.file, key="exclude")
        return Expansion(self.with_baselines(cells, sources), merged, excluded)

    def remarked(self, cell: Cell) -> Cell:
        if not (self.study.notes or self.study.unknown):
            return cell
        return replace(cell, notes=notes_of(self.study, cell), unknown=unknown_of(self.study, cell))

    def is_excluded(self, draft: _Draft, config: RunSettings | None) -> bool:
        """Whether an entry of `exclude` matches; entries about defaults only match once there is a `config`."""

        def value_of(key: str) -> Any:
            if key not in self.known.groups:
                if key in draft.assigned:
                    return draft.assigned[key]
                if key in self.study.base:
                    return self.study.base[key]
            return _UNKNOWN if config is None else lookup(config, key)

        return any(all(freeze(value_of(key)) in accepted for key, accepted in entry.items()) for entry in self.exclude)

    def config(self, draft: _Draft, seed: int) -> RunSettings:
        try:
            return self.Config.model_validate(nest(self.study.base, draft.assigned, {"seed": seed}))
        except ValidationError as error:
            owners = {key: self.owner(draft, key) for key in draft.assigned}
            cell = ", ".join(f"{key}={shown(value)}" for key, value in draft.assigned.items())
            where = f" (in the cell {cell})" if cell else ""
            raise explain(error.errors(), self.known, self.study.source, owners, where) from None

    def owner(self, draft: _Draft, key: str) -> Trail:
        """Which part of the study gave `key` its value in a cell."""
        if draft.entry is not None:
            return ("ablate", draft.entry, key)
        axis = next(axis for axis in (*self.study.grid, *self.study.zip) if axis.key == key)
        values = [freeze(value) for value in axis.values]
        return ("axis", key, values.index(freeze(draft.assigned[key])))

    def settings(self, draft: _Draft, config: RunSettings) -> dict[str, Any]:
        """The axes that exist in a cell, with the values that its configuration ended up with."""
        found: dict[str, Any] = {}
        for key in self.axes:
            value = lookup(config, key)
            if value is None and draft.assigned.get(key, ...) is not None:
                value = config.own_value(key)
            value = plain(value)
            if key in draft.assigned:
                # An assigned value may have been dropped because nothing uses it in this cell.
                exists = value is not None or draft.assigned[key] is None
            elif draft.entry is None and key in self.product_axes:
                exists = False
            else:
                exists = value is not None and self.applies(key, draft.assigned)
            if exists:
                found[key] = value
        return found

    def applies(self, key: str, assigned: Mapping[str, Any]) -> bool:
        """Whether the conditions of the axis `key`, if it has any, hold."""
        step = self.conditions.get(key)
        return step is None or step.holds(lambda other: assigned[other] if other in assigned else self.fixed(other))

    def with_baselines(self, cells: Mapping[Hashable, Cell], sources: list[_Draft]) -> tuple[Cell, ...]:
        if self.study.baseline is None:
            return tuple(cells.values())
        found: dict[Hashable, int | None] = {}
        result: list[Cell] = []
        for cell, draft in zip(cells.values(), sources, strict=True):
            changed = self.rebased(draft)
            shortcut = (cell.seed, frozenset((key, freeze(value)) for key, value in changed.items()))
            if shortcut not in found:
                found[shortcut] = self.position(cells, changed, cell.seed)
            result.append(replace(cell, baseline=found[shortcut]))
        return tuple(result)

    def rebased(self, draft: _Draft) -> dict[str, Any]:
        """What a cell sets once the baseline's settings are applied and axes that no longer apply are dropped."""
        wanted = {**draft.assigned, **(self.study.baseline or {})}
        kept: dict[str, Any] = {}
        ordered = [key for step in self.steps for key in step.keys if key in wanted]
        for key in (*(key for key in wanted if key not in ordered), *ordered):
            if self.applies(key, kept):
                kept[key] = wanted[key]
        return kept

    def position(self, cells: Mapping[Hashable, Cell], assigned: Mapping[str, Any], seed: int) -> int | None:
        try:
            config = self.Config.model_validate(nest(self.study.base, assigned, {"seed": seed}))
        except ValidationError:
            return None
        cell = cells.get(cell_key(config))
        return None if cell is None else cell.position
