"""The axes of a study: reading `grid:` and `zip:`, and the order and conditions in which axes apply."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.study.model import Axis
from ablate.study.reading import Reader
from ablate.study.settings import closest, freeze, takes_list
from ablate.study.yaml import Trail, shown


@dataclass(frozen=True)
class AxisReader:
    """Reads axes; what is wrong is added to the reader's problems."""

    reader: Reader

    def read(self, section: str, data: Any) -> tuple[Axis, ...]:
        """The axes of `grid` or `zip`."""
        axes: list[Axis] = []
        for key, value in self.reader.mapping((section,), data, "settings, each with a list of values").items():
            trail = (section, key)
            if key in self.reader.known.groups:
                inside = ", ".join(name for name in self.reader.known.settings if name.startswith(f"{key}."))
                self._add(trail, "is a group of settings, not one", key, f"name one of them: {inside}", at_key=True)
            elif self.reader.knows(key, trail):
                axes += self._axis(section, key, value)
        return tuple(axes)

    def _add(self, trail: Trail, problem: str, key: str, hint: str | None = None, *, at_key: bool = False) -> None:
        self.reader.problems.add(trail, problem, name=key, hint=hint, key=at_key)

    def _axis(self, section: str, key: str, value: Any) -> list[Axis]:
        trail: Trail = (section, key)
        when: dict[str, tuple[Any, ...]] = {}
        if isinstance(value, dict):
            if section == "zip":
                self._add(trail, "expected a list of values", key, "`values` and `when` belong under `grid:`")
                return []
            if not self._check_form(trail, key, value):
                return []
            conditions = self.reader.mapping((*trail, "when"), value.get("when"), "conditions")
            when = self.reader.alternatives((*trail, "when"), conditions)
            for group in when.keys() & self.reader.known.groups.keys():
                self._add((*trail, "when", group), "is a group of settings, not one", group, at_key=True)
            trail, value = (*trail, "values"), value.get("values")
        values = self._values(trail, key, value)
        self.reader.problems.mark(("axis", key), trail)
        for index in range(len(values)):
            self.reader.problems.mark(("axis", key, index), (*trail, index))
        return [Axis(key=key, values=values, when=when)] if values else []

    def _check_form(self, trail: Trail, key: str, value: Mapping[str, Any]) -> bool:
        odd = [name for name in value if name not in ("values", "when")]
        for name in odd:
            close = closest(name, ("values", "when"))
            hint = f"did you mean {close}?" if close else "an axis has `values` and `when`"
            self.reader.problems.add((*trail, name), "there is no such key in an axis", hint=hint, key=True)
        if "values" not in value and not odd:
            self._add(trail, "the axis has no values", key, "write {values: [a, b], when: {key: value}}")
        return "values" in value

    def _values(self, trail: Trail, key: str, values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list):
            what = "nothing" if values is None else shown(values)
            hint = "give at least one value, or remove the axis" if values is None else f"for one value write [{what}]"
            self._add(trail, f"expected a list of values, found {what}", key, hint)
            return ()
        if not values:
            self._add(trail, "the axis is empty", key, "give at least one value, or remove the axis")
            return ()
        if self._is_one_value(key, values):
            self._add(trail, "these are not several values but one", key, f"for one value write [{shown(values)}]")
            return ()
        for index, value in enumerate(values):
            self.reader.check(key, value, (*trail, index))
        self._check_distinct(trail, key, values)
        return tuple(values)

    def _is_one_value(self, key: str, values: list[Any]) -> bool:
        """`[192, 640]` where `[[192, 640]]` was meant."""
        flat = not any(isinstance(value, list) for value in values)
        return flat and takes_list(self.reader.known.settings[key]) and not any(self.reader.known.check(key, values))

    def _check_distinct(self, trail: Trail, key: str, values: list[Any]) -> None:
        seen: set[Any] = set()
        for index, value in enumerate(values):
            frozen = freeze(value)
            if frozen in seen:
                self._add((*trail, index), f"the value {shown(value)} is given twice", key)
            seen.add(frozen)
        if trail[0] == "grid" and len(values) > 1 and not self.reader.known.can_differ(key):
            hint = "put it under `base:`, or in one `zip:` or `ablate:` entry with a setting that matters"
            self._add(trail, "cannot change a result, so it cannot be an axis", key, hint)

    def check_zip(self, grid: Sequence[Axis], zipped: Sequence[Axis]) -> None:
        """Axes of `zip` must be as long as each other, and none of them in `grid`."""
        for axis in zipped:
            trail = ("zip", axis.key)
            if any(axis.key == other.key for other in grid):
                self._add(trail, "is an axis of `grid` already", axis.key, "keep one of the two", at_key=True)
            count, first = len(axis.values), zipped[0]
            if count != len(first.values):
                problem = f"has {count} value{'s' if count > 1 else ''}, but {first.key} has {len(first.values)}"
                self._add(trail, problem, axis.key, "the axes of `zip` move together, so they must be as long")

    def check_cycles(self, grid: Sequence[Axis]) -> None:
        """No axis may depend, through its conditions, on itself."""
        by_key = {axis.key: axis for axis in grid}
        for axis in grid:
            if loop := _cycle(axis.key, by_key):
                trail = ("grid", axis.key, "when")
                self._add(trail, f"depends on itself: {' -> '.join(loop)}", axis.key, "remove one of these conditions")
                return


def _cycle(start: str, axes: Mapping[str, Axis]) -> list[str] | None:
    """The shortest way from `start` through conditions back to `start`, if there is one."""
    paths, seen = [[start]], {start}
    for path in paths:  # grows while it is read: breadth first
        for key in axes[path[-1]].when:
            if key == start:
                return [*path, start]
            if key in axes and key not in seen:
                seen.add(key)
                paths.append([*path, key])
    return None


@dataclass(frozen=True)
class Step:
    """A choice in building a cell: one of `rows`, where every condition of `when` (frozen values) is met."""

    rows: tuple[Mapping[str, Any], ...]
    when: Mapping[str, frozenset[Any]]

    def holds(self, value_of: Callable[[str], Any]) -> bool:
        return all(freeze(value_of(key)) in accepted for key, accepted in self.when.items())

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self.rows[0])


def steps(grid: Sequence[Axis], zipped: Sequence[Axis]) -> list[Step]:
    """One step per axis of `grid`, one for all of `zip`, in the order in which they must be taken."""
    every = [Step(tuple({axis.key: value} for value in axis.values), frozen_conditions(axis)) for axis in grid]
    if zipped:
        rows = zip(*(axis.values for axis in zipped), strict=True)
        every.append(
            Step(tuple({axis.key: value for axis, value in zip(zipped, row, strict=True)} for row in rows), {})
        )
    return _in_order(every)


def frozen_conditions(axis: Axis) -> dict[str, frozenset[Any]]:
    return {key: frozenset(freeze(value) for value in values) for key, values in axis.when.items()}


def _in_order(every: Sequence[Step]) -> list[Step]:
    """The steps as declared, except that each comes after those that its conditions name."""
    by_key = {key: step for step in every for key in step.keys}
    done: dict[int, Step] = {}

    def add(step: Step) -> None:
        for key in step.when:
            if key in by_key and id(by_key[key]) not in done:
                add(by_key[key])
        done.setdefault(id(step), step)

    for step in every:
        add(step)
    return list(done.values())


def assignments(chosen: Sequence[Step], fixed: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Every way through the steps, one at a time. `fixed` gives the value of a setting that none has assigned."""
    if not chosen:
        yield {}
        return
    pending: list[Iterator[dict[str, Any]]] = [_extended({}, chosen[0], fixed)]
    while pending:  # depth first, with a stack: nested generators would pay for every level on every cell
        assigned = next(pending[-1], None)
        if assigned is None:
            pending.pop()
        elif len(pending) == len(chosen):
            yield assigned
        else:
            pending.append(_extended(assigned, chosen[len(pending)], fixed))


def _extended(assigned: dict[str, Any], step: Step, fixed: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    if step.when and not step.holds(lambda key: assigned[key] if key in assigned else fixed(key)):
        return iter((assigned,))
    return ({**assigned, **row} for row in step.rows)


def count(chosen: Sequence[Step], fixed: Callable[[str], Any], limit: int) -> tuple[int, bool]:
    """How many assignments there are, and whether that is exact or (conditions being many) an upper bound.

    Only steps that conditions name are walked; the others multiply.
    """
    named = {key for step in chosen for key in step.when}
    walked = [step for step in chosen if step.keys & named]
    others = [step for step in chosen if not step.keys & named]
    if math.prod(len(step.rows) for step in walked) > limit:
        return math.prod(len(step.rows) for step in chosen), False

    def ways(assigned: Mapping[str, Any]) -> int:
        def value_of(key: str) -> Any:
            return assigned[key] if key in assigned else fixed(key)

        return math.prod(len(step.rows) for step in others if step.holds(value_of))

    return sum(ways(assigned) for assigned in assignments(walked, fixed)), True
