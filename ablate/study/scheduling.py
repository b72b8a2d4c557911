"""What a study says about when its cells are trained: `priority`, `defer` and `resources`.

Nothing here can change a result, so nothing here is part of a run's identity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from ablate.study.grid import Cell
from ablate.study.identity import plain
from ablate.study.model import Deferral, Matching, Priority, Reservation, Study
from ablate.study.reading import Reader
from ablate.study.settings import closest, freeze, lookup
from ablate.study.yaml import Trail, shown

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


@dataclass(frozen=True)
class SchedulingReader:
    """Reads the three sections; what is wrong is added to the problems of its reader."""

    reader: Reader
    data: Mapping[str, Any]

    def priority(self) -> tuple[Priority, ...]:
        found = []
        for trail, entry in self._entries("priority", "value", "a number; higher ones go first"):
            value = entry["value"]
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                self._wrong((*trail, "value"), f"expected a number, found {shown(value)}")
                continue
            found.append(Priority(match=self._match(trail, entry), value=value))
        return tuple(found)

    def defer(self) -> tuple[Deferral, ...]:
        found = []
        for trail, entry in self._entries("defer", "reason", "why the cells have to wait"):
            reason = entry["reason"]
            if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON:
                problem = f"expected a reason of at most {MAX_REASON} characters, found {shown(reason)}"
                self._wrong((*trail, "reason"), problem)
                continue
            found.append(Deferral(match=self._match(trail, entry), reason=" ".join(reason.split())))
        return tuple(found)

    def resources(self) -> tuple[Reservation, ...]:
        found = []
        for trail, entry in self._entries("resources", "memory", "an amount such as 6GB"):
            memory = entry["memory"]
            try:
                size = parse_size(memory if isinstance(memory, str) else "")
            except ValueError as error:
                hint = f"write {memory}GB" if isinstance(memory, int) and not isinstance(memory, bool) else None
                self._wrong((*trail, "memory"), f"{error}, found {shown(memory)}", hint)
                continue
            found.append(Reservation(match=self._match(trail, entry), memory=size))
        return tuple(found)

    def _wrong(self, trail: Trail, problem: str, hint: str | None = None) -> None:
        self.reader.problems.add(trail, problem, hint=hint)

    def _entries(self, section: str, needed: str, meaning: str) -> list[tuple[Trail, dict[str, Any]]]:
        """The good entries of a section, by place; `resources` may also be one mapping, for all cells."""
        value = self.data.get(section)
        if section == "resources" and isinstance(value, dict):
            places: list[tuple[Trail, Any]] = [((section,), value)]
        elif isinstance(value, list):
            places = [((section, index), entry) for index, entry in enumerate(value)]
        else:
            if value is not None:
                hint = f"such as `- {{match: {{…}}, {needed}: …}}`"
                self._wrong((section,), f"expected a list of entries, found {shown(value)}", hint)
            places = []
        return [(trail, entry) for trail, entry in places if self._is_entry(trail, entry, needed, meaning)]

    def _is_entry(self, trail: Trail, entry: Any, needed: str, meaning: str) -> bool:
        if not isinstance(entry, dict):
            self._wrong(trail, f"expected a mapping with `match` and `{needed}`, found {shown(entry)}")
            return False
        self.reader.problems.mark(trail, trail)
        unknown = [key for key in entry if key not in ("match", needed)]
        for key in unknown:
            close = closest(key, ("match", needed))
            listed = f"known: match, {needed}; settings go under `match:`"
            hint = f"did you mean {close}?" if close else listed
            self.reader.problems.add((*trail, key), "there is no such key", hint=hint, key=True)
        if needed not in entry and not unknown:
            self._wrong(trail, f"`{needed}` is missing", f"add {needed}: {meaning}")
        return not unknown and needed in entry

    def _match(self, trail: Trail, entry: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        value = entry.get("match")
        match = self.reader.mapping((*trail, "match"), value, "settings")
        if value == {}:
            self._wrong((*trail, "match"), "the match is empty", "name a setting, or leave `match` out for all cells")
        settings = {key: value for key, value in match.items() if key != "seed"}
        found = self.reader.alternatives((*trail, "match"), settings)
        return found | ({"seed": self._seeds((*trail, "match", "seed"), match["seed"])} if "seed" in match else {})

    def _seeds(self, trail: Trail, value: Any) -> tuple[Any, ...]:
        """The seeds of a match; other than in `base`, they are named like any setting."""
        seeds = value if isinstance(value, list) and value else [value]
        given = self.data.get("seeds", [0])
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or (isinstance(given, list) and seed not in given):
                self._wrong(trail, f"no cell has the seed {shown(seed)}", f"the study's are {shown(given)}")
        return tuple(seeds)


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


def matches(match: Mapping[str, tuple[Any, ...]], cell: Cell) -> bool:
    """Whether every setting of `match` has one of its values in the cell."""
    return all(
        freeze(cell.settings[key] if key in cell.settings else plain(lookup(cell.config, key)))
        in {freeze(value) for value in values}
        for key, values in match.items()
    )
