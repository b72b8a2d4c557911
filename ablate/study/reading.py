"""Reading settings out of a YAML document while collecting what is wrong with it, place by place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ablate.errors import StudyError
from ablate.study.model import Origin
from ablate.study.settings import Catalogue, takes_list
from ablate.study.yaml import Document, Place, Trail, printable, shown

MAX_PROBLEMS = 100
"""Enough to give up on a file: finding the closest spelling of each takes time."""


class Problems:
    """The problems found so far in one document, and the origins of its good parts.

    `option` is the command-line option that the document is the value of, if it is not a file.
    """

    def __init__(self, document: Document, option: str | None = None) -> None:
        self.document, self.option = document, option
        self.errors: list[StudyError] = []
        self.origins: dict[Trail, Origin] = {}

    def place(self, trail: Trail, *, key: bool = False) -> Place:
        """The place of a key or value, or of what is around it."""
        table = self.document.keys if key else self.document.values
        while trail and trail not in table:
            trail = trail[:-1]
        return table.get(trail, Place(1, 1))

    def origin(self, trail: Trail, *, key: bool = False) -> Origin:
        if self.option is not None:
            return Origin(self.option)
        return Origin(self.document.file, *self.place(trail, key=key))

    def mark(self, part: Trail, trail: Trail, *, key: bool = False) -> None:
        """Notes that `part` of the study stands at `trail` of the document."""
        self.origins[part] = self.origin(trail, key=key)

    def add(
        self, trail: Trail, problem: str, *, name: str | None = None, hint: str | None = None, key: bool = False
    ) -> None:
        """One problem, at a value or at the key before it.

        `name` is the dotted key to show, if `trail` is not it. Raises the first problem when there are too many.
        """
        file, line, column = self.origin(trail, key=key)
        if name is None:
            name = ".".join(str(part) for part in trail if isinstance(part, str))
        name = printable(name) or None
        self.errors.append(StudyError(problem, file=file, line=line, column=column, key=name, hint=hint))
        if len(self.errors) >= MAX_PROBLEMS:
            self.stop()

    def stop_if_any(self) -> None:
        if self.errors:
            self.stop()

    def stop(self) -> NoReturn:
        """Raises the first problem of the file, which also says how many follow."""
        first, *more = sorted(self.errors, key=lambda error: (error.line or 0, error.column or 0))
        if not more:
            raise first
        raise StudyError(
            f"{first.problem} (and {len(more)} more problem{'s' if len(more) > 1 else ''} in this file)",
            file=first.file,
            line=first.line,
            column=first.column,
            key=first.key,
            hint=first.hint,
        )


@dataclass(frozen=True)
class Entry:
    """A setting as it was written."""

    key: str
    value: Any
    trail: Trail


@dataclass(frozen=True)
class Reader:
    """Reads settings of one configuration class."""

    problems: Problems
    known: Catalogue

    def mapping(self, trail: Trail, value: Any, what: str) -> dict[str, Any]:
        """`value` if it is a mapping; otherwise nothing, with a problem unless it is null."""
        if isinstance(value, dict):
            return value
        if value is not None:
            self.problems.add(trail, f"expected a mapping of {what}, found {shown(value)}")
        return {}

    def settings(self, section: Trail, trail: Trail, data: Mapping[str, Any]) -> dict[str, Any]:
        """The good settings in `data`, by dotted key; their origins are noted under `section`."""
        good: dict[str, Any] = {}
        for entry in self.flatten(trail, data):
            if self.check(entry.key, entry.value, entry.trail):
                good[entry.key] = entry.value
                self.problems.mark((*section, entry.key), entry.trail)
        return good

    def flatten(self, trail: Trail, data: Mapping[str, Any]) -> list[Entry]:
        """The settings in `data`, nested or dotted, by full dotted key. Unknown and repeated ones are problems."""
        kept: dict[str, Entry] = {}
        for entry in self._flatten(trail, data, ""):
            rival = next((other for key, other in kept.items() if overlap(key, entry.key)), None)
            if rival is None:
                kept[entry.key] = entry
                continue
            line = self.problems.place(rival.trail, key=True).line
            problem = f"this setting is given twice; first on line {line}"
            self.problems.add(entry.trail, problem, name=entry.key, key=True)
        return list(kept.values())

    def _flatten(self, trail: Trail, data: Mapping[str, Any], prefix: str) -> list[Entry]:
        entries: list[Entry] = []
        for name, value in data.items():
            key, here = prefix + name, (*trail, name)
            group = self.known.groups.get(key)
            if group is None:
                if self.knows(key, here):
                    entries.append(Entry(key, value, here))
            elif isinstance(value, dict) and (value or not group.optional):
                entries += self._flatten(here, value, f"{key}.")
            elif group.optional and (value is None or value == {}):
                entries.append(Entry(key, value, here))
            else:
                inside = ", ".join(group.config.model_fields)
                self.problems.add(here, f"expected a mapping of settings ({inside}), found {shown(value)}", name=key)
        return entries

    def knows(self, key: str, trail: Trail) -> bool:
        """Whether `key` is a setting that a study may give."""
        if key == "seed" and key in self.known.settings:
            self.problems.add(trail, "the seed is not given here", name=key, hint="use `seeds: [0, 1, 2]`", key=True)
            return False
        if key in self.known.settings:
            return True
        around = key.rpartition(".")[0]
        config = self.known.groups[around].config if around in self.known.groups else self.known.config
        close = self.known.closest(key)
        listed = ", ".join(name for name in config.model_fields if around or name != "seed")
        hint = f"did you mean {close}?" if close else f"known{f' in {around}' if around else ''}: {listed}"
        self.problems.add(trail, "there is no such setting", name=key, hint=hint, key=True)
        return False

    def check(self, key: str, value: Any, trail: Trail) -> bool:
        """Whether `value` suits the setting, looked at alone."""
        complaints = [] if key in self.known.groups else list(self.known.check(key, value))
        for complaint in complaints:
            self.problems.add((*trail, *complaint.trail), complaint.problem, name=key, hint=complaint.hint)
        return not complaints

    def alternatives(self, trail: Trail, data: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Settings that are each given one value, or a list of them (`when`, `exclude`)."""
        found: dict[str, tuple[Any, ...]] = {}
        for entry in self.flatten(trail, data):
            if not isinstance(entry.value, list) or self._is_one_value(entry.key, entry.value):
                values, trails = [entry.value], [entry.trail]
            else:
                values, trails = entry.value, [(*entry.trail, index) for index in range(len(entry.value))]
            if not values:
                self.problems.add(entry.trail, "the list is empty", name=entry.key, hint="give at least one value")
            for value, place in zip(values, trails, strict=True):
                self.check(entry.key, value, place)
            found[entry.key] = tuple(values)
        return found

    def _is_one_value(self, key: str, value: list[Any]) -> bool:
        setting = self.known.settings.get(key)
        return setting is not None and takes_list(setting) and not any(isinstance(item, list) for item in value)


def overlap(one: str, other: str) -> bool:
    """Whether two dotted keys are the same or one holds the other."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
