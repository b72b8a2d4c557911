"""The axes of a study as factors that can be crossed: axes that move together are one, and so are nested ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = tuple[str | None, ...]
"""The values of a factor's axes, as canonical JSON; None where a cell does not have the axis."""


@dataclass(frozen=True)
class Cell:
    """An arm of a study: its name, the values of the axes that it has, and a number per seed that has one."""

    name: str
    settings: Mapping[str, Any]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    def value(self, axes: Sequence[str]) -> Value:
        return tuple(
            json.dumps(self.settings[axis], sort_keys=True, ensure_ascii=False) if axis in self.settings else None
            for axis in axes
        )


@dataclass(frozen=True)
class Factor:
    """One axis, axes that always change together, or an axis with those that exist only at some of its values."""

    axes: tuple[str, ...]


def factors_of(cells: Sequence[Cell], axes: Sequence[str]) -> Iterator[tuple[Factor, tuple[Factor, ...]]]:
    """Each factor whose effect can be asked for, with all factors of the grid that it is looked at in.

    Axes with one value are dropped, and axes whose values determine each other are one factor. An axis that exists
    only at some values of another (`when:`) is one factor with it; its own effect is looked at among the cells that
    have it, where it is crossed with the others like any axis.
    """
    tied = _tied(cells, axes)
    parents = {child: parent for child in tied if (parent := _parent(cells, child, tied)) is not None}
    roots = [axes_ for axes_ in tied if axes_ not in parents]
    families = tuple(
        Factor(root + tuple(axis for child, top in _tops(parents).items() if top == root for axis in child))
        for root in roots
    )
    for factor in families:
        yield factor, families
    for child in parents:
        # What exists only at some of its values is one factor with it, as above.
        own = child + tuple(axis for other in parents if child in _above(other, parents) for axis in other)
        # Its parent's family without it: what else may differ among the cells that have it.
        rest = [Factor(kept) for family in families if (kept := tuple(axis for axis in family.axes if axis not in own))]
        yield Factor(own), (Factor(own), *rest)


def _tied(cells: Sequence[Cell], axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of axes whose values determine each other, without those that have one value only."""
    groups: list[tuple[str, ...]] = []
    for axis in axes:
        if len({cell.value((axis,)) for cell in cells}) < 2:
            continue
        for place, group in enumerate(groups):
            pairs = {(cell.value(group), cell.value((axis,))) for cell in cells}
            if len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}):
                groups[place] = (*group, axis)
                break
        else:
            groups.append((axis,))
    return groups


def _parent(cells: Sequence[Cell], child: tuple[str, ...], groups: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The first group whose value tells whether a cell has any axis of `child`: one may be tied to an axis that all have."""
    here = {cell.name: set(cell.value(child)) != {None} for cell in cells}
    if all(here.values()):
        return None
    for group in groups:
        if group == child:
            continue
        known: dict[Value, bool] = {}
        if all(known.setdefault(cell.value(group), here[cell.name]) == here[cell.name] for cell in cells):
            return group
    return None


def _above(child: tuple[str, ...], parents: Mapping[tuple[str, ...], tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Its parent, the parent of that, and so on; conditions cannot form a ring, but two tied readings of one could."""
    found: list[tuple[str, ...]] = []
    while child in parents and parents[child] not in found:
        child = parents[child]
        found.append(child)
    return found


def _tops(parents: Mapping[tuple[str, ...], tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The outermost parent of each child."""
    return {child: _above(child, parents)[-1] for child in parents}
