"""The largest balanced sub-grid: some values of each factor, all of whose combinations have a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from ablate.report.stats.factors import Cell, Factor, Value

STEPS, WIDTH = 2_000, 300
"""Of the search, and how many sets of values of one factor a step looks at: enough but for grids with many holes."""

Key = tuple[Value, ...]


@dataclass(frozen=True)
class Grid:
    """`values[f]` are the chosen values of factor f; `cells` holds every combination of them."""

    values: tuple[tuple[Value, ...], ...]
    cells: dict[Key, Cell]
    exact: bool


def largest(cells: Sequence[Cell], factors: Sequence[Factor], needed: Sequence[Factor]) -> Grid | None:
    """The sub-grid with the most cells in which every factor of `needed` has at least two values; None if none has.

    Among equals that with more values of `needed`, then the one found first. Cells that have none of the axes of a
    factor of `needed` do not count. Where two cells have the same values of all factors, the first is meant.
    """
    by_key: dict[Key, Cell] = {}
    for cell in cells:
        key = tuple(cell.value(factor.axes) for factor in factors)
        if not any(set(cell.value(factor.axes)) == {None} for factor in needed):
            by_key.setdefault(key, cell)
    # The needed factors first: what they can be decides most.
    order = sorted(range(len(factors)), key=lambda place: factors[place] not in needed)
    search = _Search(tuple(factors[place] in needed for place in order))
    search.look([tuple(key[place] for place in order) for key in by_key])
    if search.best is None:
        return None
    values: list[tuple[Value, ...]] = [()] * len(factors)
    for place, chosen in zip(order, search.best, strict=True):
        values[place] = chosen
    return Grid(tuple(values), {key: by_key[key] for key in product(*values)}, search.exact)


@dataclass
class _Search:
    """Branch and bound over the values of one factor after the other."""

    needed: tuple[bool, ...]
    best: tuple[tuple[Value, ...], ...] | None = None
    score: tuple[int, int] = (0, 0)
    left: int = STEPS
    exact: bool = True
    chosen: list[tuple[Value, ...]] = field(default_factory=list)

    def look(self, keys: Sequence[Key]) -> None:
        """keys: what remains of every combination that has a result, after the values chosen so far."""
        place, size = len(self.chosen), prod(len(values) for values in self.chosen)
        if place == len(self.needed):
            of_needed = sum(len(v) for v, needed in zip(self.chosen, self.needed, strict=True) if needed)
            if (size, of_needed) > self.score:
                self.best, self.score = tuple(self.chosen), (size, of_needed)
            return
        rests: dict[Value, dict[Key, None]] = {}
        for key in keys:
            rests.setdefault(key[0], {})[key[1:]] = None
        for rest, values in self._choices(rests):
            if len(values) * size * len(rest) < self.score[0] or (self.needed[place] and len(values) < 2):
                continue
            if self.left <= 0:
                self.exact = False
                return
            self.left -= 1
            self.chosen.append(values)
            self.look(list(rest))
            self.chosen.pop()

    def _choices(self, rests: dict[Value, dict[Key, None]]) -> list[tuple[dict[Key, None], tuple[Value, ...]]]:
        """Every set of rests that some values share, with all values that have it; the most promising first."""
        shared: dict[frozenset[Key], None] = {}
        for rest in rests.values():
            found = frozenset(rest)
            if len(shared) <= WIDTH:
                shared |= dict.fromkeys([both for other in list(shared) if (both := other & found)])
            elif any(other & found for other in shared):
                self.exact = False
            shared[found] = None
        order = {key: place for place, key in enumerate(dict.fromkeys(key for rest in rests.values() for key in rest))}
        choices = []
        for keys in shared:
            values = tuple(value for value, rest in rests.items() if keys <= rest.keys())
            choices.append((dict.fromkeys(sorted(keys, key=order.__getitem__)), values))
        return sorted(choices, key=lambda choice: -len(choice[0]) * len(choice[1]))
