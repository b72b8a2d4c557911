"""`--only axis=value[,value]`: some of a study's cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablate.errors import StudyError
from ablate.study.grid import Cell
from ablate.study.settings import closest, freeze
from ablate.study.yaml import parse_value, shown


def select(cells: Sequence[Cell], only: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that match every option; options for one axis add up. Raises StudyError if none is left.

    Cells keep their positions. `seed` can be named like an axis.
    """
    wanted: dict[str, set[Any]] = {}
    for text in only:
        axis, values = _parse(text, cells)
        wanted.setdefault(axis, set()).update(values)
    kept = tuple(cell for cell in cells if all(_value(cell, axis) in values for axis, values in wanted.items()))
    if not kept:
        raise StudyError("no cell matches all of this", file=" ".join(f"--only {text}" for text in only))
    return kept


def _value(cell: Cell, axis: str) -> Any:
    """The frozen value of an axis in a cell; something that matches nothing where it does not exist."""
    if axis == "seed":
        return cell.seed
    return freeze(cell.settings[axis]) if axis in cell.settings else _value


def _parse(text: str, cells: Sequence[Cell]) -> tuple[str, set[Any]]:
    option = f"--only {text if text.isprintable() else ascii(text)[1:-1]}"
    axis, equals, values = text.partition("=")
    axis = axis.strip()
    if not equals or not axis or not values.strip():
        raise StudyError(
            "expected axis=value", file=option, hint="for instance --only model.attention=performer,standard"
        )
    axes = {key: None for cell in cells for key in cell.settings} | {"seed": None}
    if axis not in axes:
        tails = {key.rpartition(".")[2]: key for key in reversed(axes)}
        close = tails.get(closest(axis.rpartition(".")[2], tails) or "")
        hint = f"did you mean {close}?" if close else f"axes: {', '.join(axes)}"
        raise StudyError("the study has no such axis", file=option, key=axis, hint=hint)
    having = [cell for cell in cells if axis == "seed" or axis in cell.settings]
    held = {_value(cell, axis): cell.seed if axis == "seed" else cell.settings[axis] for cell in having}
    wanted = set()
    for value in parse_value(f"[{values}]", option):
        if freeze(value) not in held:
            hint = f"values: {', '.join(shown(other) for other in list(held.values())[:12])}"
            raise StudyError(f"no cell has the value {shown(value)}", file=option, key=axis, hint=hint)
        wanted.add(freeze(value))
    return axis, wanted
