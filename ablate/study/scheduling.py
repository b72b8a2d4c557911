"""What a study says about when its cells are trained: `priority`, `defer` and `resources`.

Nothing here can change a result, so nothing here is part of a run's identity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from ablate.study.grid import Cell
from ablate.study.matching import MatchReader, matches
from ablate.study.model import Deferral, Matching, Priority, Reservation, Study
from ablate.study.yaml import shown

SECTIONS = ("priority", "defer", "resources")
SIZE = r"\s*(\d+(?:\.\d+)?)\s*([kMGT]i?B|B)\s*"
_UNITS: dict[str, int] = {"B": 1} | {
    prefix + suffix: base ** (power + 1)
    for power, prefix in enumerate("kMGT")
    for suffix, base in (("B", 1000), ("iB", 1024))
}
MAX_REASON = 500

_Entry = TypeVar("_Entry", bound=Matching)


def parse_size(text: str) -> int:
    """'6GB' -> 6000000000, '512MiB' -> 536870912. Raises ValueError on anything else."""
    match = re.fullmatch(SIZE, text)
    if not match or float(match[1]) <= 0 or len(match[1]) > 15:
        raise ValueError("expected an amount of memory, such as '6GB' or '512MiB'")
    return math.ceil(Decimal(match[1]) * _UNITS[match[2]])


class SchedulingReader(MatchReader):
    """Reads the three sections; what is wrong is added to the problems of its reader."""

    def priority(self) -> tuple[Priority, ...]:
        found = []
        for trail, entry in self.entries("priority", "value", "a number; higher ones go first"):
            value = entry["value"]
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                self.wrong((*trail, "value"), f"expected a number, found {shown(value)}")
                continue
            found.append(Priority(match=self.match(trail, entry), value=value))
        return tuple(found)

    def defer(self) -> tuple[Deferral, ...]:
        found = []
        for trail, entry in self.entries("defer", "reason", "why the cells have to wait"):
            reason = self.text((*trail, "reason"), entry["reason"], "a reason", MAX_REASON)
            if reason is not None:
                found.append(Deferral(match=self.match(trail, entry), reason=reason))
        return tuple(found)

    def resources(self) -> tuple[Reservation, ...]:
        found = []
        for trail, entry in self.entries("resources", "memory", "an amount such as 6GB"):
            memory = entry["memory"]
            try:
                size = parse_size(memory if isinstance(memory, str) else "")
            except ValueError as error:
                hint = f"write {memory}GB" if isinstance(memory, int) and not isinstance(memory, bool) else None
                self.wrong((*trail, "memory"), f"{error}, found {shown(memory)}", hint)
                continue
            found.append(Reservation(match=self.match(trail, entry), memory=size))
        return tuple(found)


@dataclass(frozen=True)
class Scheduling:
    """What a study says about one of its cells; of the entries of a section, the first that matches counts."""

    study: Study

    def priority(self, cell: Cell) -> float:
        entry = self._first(self.study.priority, cell)
        return entry.value if entry else 0.0

    def deferred(self, cell: Cell) -> str | None:
        """Why the cell is put off, if it is."""
        entry = self._first(self.study.defer, cell)
        return entry.reason if entry else None

    def memory(self, cell: Cell) -> int:
        """Bytes that a run of the cell reserves on its device; 0 if nothing is known."""
        entry = self._first(self.study.resources, cell)
        return entry.memory if entry else 0

    def _first(self, entries: Sequence[_Entry], cell: Cell) -> _Entry | None:
        return next((entry for entry in entries if matches(entry.match, cell)), None)
