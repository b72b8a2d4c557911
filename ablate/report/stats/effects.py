"""Main effects and two-way interactions, over balanced sub-grids only.

A mean over cells compares two values of an axis only if both met the same values of every other axis. So effects are
taken over a full product of some values of each factor, in which every combination has a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.report.stats.balance import Grid, largest
from ablate.report.stats.factors import Cell, Factor, Value, factors_of
from ablate.report.stats.quantiles import t_quantile


@dataclass(frozen=True)
class Level:
    """One value (or combination of tied values) of a factor: the mean of its cells, and that minus the mean of all.

    `low` and `high` are an interval for the effect over other seeds, images and drives staying the same; None where
    no cell has two seeds.
    """

    value: Value
    mean: float
    effect: float
    low: float | None
    high: float | None
    cells: int
    runs: int


@dataclass(frozen=True)
class MainEffect:
    """`over` are the values of the other factors that the means are over; `left_out` names cells that are not in them."""

    factor: Factor
    levels: tuple[Level, ...]
    over: tuple[tuple[Factor, tuple[Value, ...]], ...]
    left_out: tuple[str, ...]
    exact: bool
    """False if the search was cut short, so that a larger sub-grid may exist."""


@dataclass(frozen=True)
class Interaction:
    """`mean[r][c]` over the cells of two values; `effect[r][c]` what it differs from the sum of the main effects."""

    rows: Factor
    columns: Factor
    row_values: tuple[Value, ...]
    column_values: tuple[Value, ...]
    mean: tuple[tuple[float, ...], ...]
    effect: tuple[tuple[float, ...], ...]
    half_width: float | None
    """Of the interval of every `effect`; None where no cell has two seeds."""
    left_out: tuple[str, ...]
    exact: bool


def main_effects(cells: Sequence[Cell], axes: Sequence[str], level: float = 0.95) -> tuple[MainEffect, ...]:
    """Of every factor that the axes make (see `factors_of`) and that has two values in some balanced sub-grid."""
    found = (_main_effect(cells, factor, factors, level) for factor, factors in factors_of(cells, axes))
    return tuple(effect for effect in found if effect is not None)


def interactions(cells: Sequence[Cell], axes: Sequence[str], level: float = 0.95) -> tuple[Interaction, ...]:
    """Of every pair of factors that is crossed in some balanced sub-grid of at least two by two."""
    seen: set[frozenset[Factor]] = set()
    found = []
    for factor, factors in factors_of(cells, axes):
        for other in factors:
            pair = frozenset((factor, other))
            if other != factor and pair not in seen:
                seen.add(pair)
                rows, columns = (one for one in factors if one in pair)
                found.append(_interaction(cells, rows, columns, factors, level))
    return tuple(one for one in found if one is not None)


def _main_effect(cells: Sequence[Cell], factor: Factor, factors: tuple[Factor, ...], level: float) -> MainEffect | None:
    grid = largest(_scored(cells), factors, (factor,))
    if grid is None:
        return None
    place = factors.index(factor)
    grand = _mean(list(grid.cells.values()))
    error = _error(list(grid.cells.values()), level)
    levels = []
    for value in grid.values[place]:
        members = [cell for key, cell in grid.cells.items() if key[place] == value]
        others = [cell for key, cell in grid.cells.items() if key[place] != value]
        half = None if error is None else error * math.sqrt(_effect_variance(members, others))
        effect = _mean(members) - grand
        low, high = (None, None) if half is None else (effect - half, effect + half)
        runs = sum(len(cell.values) for cell in members)
        levels.append(Level(value, _mean(members), effect, low, high, len(members), runs))
    over = tuple((other, grid.values[at]) for at, other in enumerate(factors) if other != factor)
    return MainEffect(factor, tuple(levels), over, _left_out(cells, grid), grid.exact)


def _interaction(
    cells: Sequence[Cell], rows: Factor, columns: Factor, factors: tuple[Factor, ...], level: float
) -> Interaction | None:
    grid = largest(_scored(cells), factors, (rows, columns))
    if grid is None:
        return None
    r, c = factors.index(rows), factors.index(columns)

    def members(row: Value | None, column: Value | None) -> list[Cell]:
        return [x for key, x in grid.cells.items() if row in (None, key[r]) and column in (None, key[c])]

    grand = _mean(members(None, None))
    of_row = {row: _mean(members(row, None)) for row in grid.values[r]}
    of_column = {column: _mean(members(None, column)) for column in grid.values[c]}
    mean = tuple(tuple(_mean(members(row, column)) for column in grid.values[c]) for row in grid.values[r])
    effect = tuple(
        tuple(
            value - of_row[row] - of_column[column] + grand for column, value in zip(grid.values[c], line, strict=True)
        )
        for row, line in zip(grid.values[r], mean, strict=True)
    )
    half = _interaction_width(grid, len(of_row), len(of_column), level)
    values = (grid.values[r], grid.values[c])
    return Interaction(rows, columns, *values, mean, effect, half, _left_out(cells, grid), grid.exact)


def _interaction_width(grid: Grid, rows: int, columns: int, level: float) -> float | None:
    """Exact where all cells have as many seeds; else with their harmonic mean."""
    cells = list(grid.cells.values())
    error = _error(cells, level)
    if error is None:
        return None
    per_cell = sum(1 / len(cell.values) for cell in cells) / len(cells)
    share = (rows - 1) * (columns - 1) / (rows * columns)
    return error * math.sqrt(share * per_cell * rows * columns / len(cells))


def _effect_variance(members: Sequence[Cell], others: Sequence[Cell]) -> float:
    """The variance of (mean of members - mean of all), in units of that of one run."""
    total = len(members) + len(others)
    inside, outside = 1 / len(members) - 1 / total, 1 / total
    return sum(inside**2 / len(cell.values) for cell in members) + sum(outside**2 / len(cell.values) for cell in others)


def _error(cells: Sequence[Cell], level: float) -> float | None:
    """The t quantile times the standard deviation between seeds of one cell, pooled over cells."""
    df = sum(len(cell.values) - 1 for cell in cells)
    if df == 0:
        return None
    squares = math.fsum((value - cell.mean) ** 2 for cell in cells for value in cell.values)
    return t_quantile(0.5 + level / 2, df) * math.sqrt(squares / df)


def _mean(cells: Sequence[Cell]) -> float:
    """Of the cells' means, so that a missing seed gives no cell less weight."""
    return math.fsum(cell.mean for cell in cells) / len(cells)


def _scored(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.values]


def _left_out(cells: Sequence[Cell], grid: Grid) -> tuple[str, ...]:
    kept = {cell.name for cell in grid.cells.values()}
    return tuple(cell.name for cell in cells if cell.name not in kept)
