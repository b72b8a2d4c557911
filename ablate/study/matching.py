"""Sections whose entries are about some of the cells: `- {match: {setting: value}, …}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.study.identity import plain
from ablate.study.reading import Reader
from ablate.study.settings import closest, freeze, lookup
from ablate.study.yaml import Trail, shown

if TYPE_CHECKING:
    from ablate.study.grid import Cell


@dataclass(frozen=True)
class MatchReader:
    """Reads such sections; what is wrong is added to the problems of its reader."""

    reader: Reader
    data: Mapping[str, Any]

    def wrong(self, trail: Trail, problem: str, hint: str | None = None) -> None:
        self.reader.problems.add(trail, problem, hint=hint)

    def entries(self, section: str, needed: str, meaning: str) -> list[tuple[Trail, dict[str, Any]]]:
        """The good entries of a section, by place; `resources` may also be one mapping, for all cells."""
        value = self.data.get(section)
        if section == "resources" and isinstance(value, dict):
            places: list[tuple[Trail, Any]] = [((section,), value)]
        elif isinstance(value, list):
            places = [((section, index), entry) for index, entry in enumerate(value)]
        else:
            if value is not None:
                hint = f"such as `- {{match: {{…}}, {needed}: …}}`"
                self.wrong((section,), f"expected a list of entries, found {shown(value)}", hint)
            places = []
        return [(trail, entry) for trail, entry in places if self._is_entry(trail, entry, needed, meaning)]

    def _is_entry(self, trail: Trail, entry: Any, needed: str, meaning: str) -> bool:
        if not isinstance(entry, dict):
            self.wrong(trail, f"expected a mapping with `match` and `{needed}`, found {shown(entry)}")
            return False
        self.reader.problems.mark(trail, trail)
        unknown = [key for key in entry if key not in ("match", needed)]
        for key in unknown:
            close = closest(key, ("match", needed))
            listed = f"known: match, {needed}; settings go under `match:`"
            hint = f"did you mean {close}?" if close else listed
            self.reader.problems.add((*trail, key), "there is no such key", hint=hint, key=True)
        if needed not in entry and not unknown:
            self.wrong(trail, f"`{needed}` is missing", f"add {needed}: {meaning}")
        return not unknown and needed in entry

    def text(self, trail: Trail, value: Any, what: str, most: int) -> str | None:
        """One line of text; None, with a problem, if it is empty, too long or none at all."""
        if not isinstance(value, str) or not value.strip() or len(value) > most:
            self.wrong(trail, f"expected {what} of at most {most} characters, found {shown(value)}")
            return None
        return " ".join(value.split())

    def match(self, trail: Trail, entry: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """What the entry is about: the values that each setting may have; nothing for all cells."""
        value = entry.get("match")
        match = self.reader.mapping((*trail, "match"), value, "settings")
        if value == {}:
            self.wrong((*trail, "match"), "the match is empty", "name a setting, or leave `match` out for all cells")
        settings = {key: value for key, value in match.items() if key != "seed"}
        found = self.reader.alternatives((*trail, "match"), settings)
        return found | ({"seed": self._seeds((*trail, "match", "seed"), match["seed"])} if "seed" in match else {})

    def _seeds(self, trail: Trail, value: Any) -> tuple[Any, ...]:
        """The seeds of a match; other than in `base`, they are named like any setting."""
        seeds = value if isinstance(value, list) and value else [value]
        given = self.data.get("seeds", [0])
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or (isinstance(given, list) and seed not in given):
                self.wrong(trail, f"no cell has the seed {shown(seed)}", f"the study's are {shown(given)}")
        return tuple(seeds)


def matches(match: Mapping[str, tuple[Any, ...]], cell: Cell) -> bool:
    """Whether every setting of `match` has one of its values in the cell."""
    return all(
        freeze(cell.settings[key] if key in cell.settings else plain(lookup(cell.config, key)))
        in {freeze(value) for value in values}
        for key, values in match.items()
    )
