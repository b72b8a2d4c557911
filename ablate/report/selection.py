"""The words by which every command names runs: studies, runs, and filters such as `lr=1e-4` or `status=failed`.

Words that name studies or runs add up, and so do the values of one filter; different filters narrow the choice down.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ablate.errors import StudyError, UnknownRunError, UsageError
from ablate.results.queries import Queries
from ablate.results.records import CellRow, Reason, RunRow, State
from ablate.study.remarks import UNKNOWN, is_unknown
from ablate.study.settings import freeze
from ablate.study.yaml import parse_value, printable, read_document

KINDS = ("study", "run", "status", "reason", "seed", "tag", "task")
"""What a filter may name besides settings."""
_ABSENT = object()


@dataclass(frozen=True)
class Selection:
    """`rows` as `Queries.runs` gives them, once per study that holds the run; `epochs` by run id, from `RUN@6`."""

    rows: tuple[RunRow, ...]
    epochs: Mapping[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> tuple[RunRow, ...]:
        """Every run once."""
        return tuple({row.run_id: row for row in reversed(self.rows)}.values())[::-1]


def select(results: Queries, words: Sequence[str], *, exact: bool = False, current: bool = False) -> list[RunRow]:
    """The rows that all `words` together choose, in the order of their studies; all rows without words.

    exact: the start of a name must fit one run, as it should where something is changed; else it takes all that fit.
    current: without runs that only an earlier version of a study declared. The list may be empty: nothing has failed, say.
    Raises UsageError for a filter, a setting or a value that does not exist, UnknownRunError for a name that does not.
    """
    return list(choose(results, words, exact=exact, current=current, epochs=False).rows)


def choose(
    results: Queries, words: Sequence[str], *, exact: bool = False, current: bool = False, epochs: bool = True
) -> Selection:
    """As `select`, and `RUN@6` names an epoch of a run where `epochs` allows it."""
    rows = results.runs()
    chooser = _Chooser(rows, {(cell.study, cell.run_id): cell for cell in results.cells(current=False)}, exact)
    names, filters = split(words)
    named = {word: chooser.named(*(_epoch(word) if epochs else (_whole(word), None))) for word in names}
    kept = [row for row in rows if not names or any(_key(row) in found for found, _ in named.values())]
    for text, key, values, equal in filters:
        fits = chooser.filter(text, key, values)
        kept = [row for row in kept if fits(row) is equal]
    if current:
        kept = [row for row in kept if chooser.is_current(row)]
    at = {run_id: epoch for found, epoch in named.values() if epoch is not None for _, run_id in found}
    return Selection(tuple(kept), at)


def select_one(results: Queries, words: Sequence[str] | str) -> tuple[RunRow, int | None]:
    """The one run that the words choose, and the epoch that `RUN@6` names. Raises UnknownRunError for none or several."""
    words = [words] if isinstance(words, str) else list(words)
    chosen = choose(results, words, exact=True)
    if len(chosen.runs) == 1:
        return chosen.runs[0], chosen.epochs.get(chosen.runs[0].run_id)
    said = " ".join(words)
    if not chosen.runs:
        raise UnknownRunError(f"no run fits {said!r}; `ablate ls` lists all")
    raise UnknownRunError(f"{said!r} names {len(chosen.runs)} runs, and one is meant here: {_names(chosen.runs)}")


def is_filter(word: str) -> bool:
    """Whether a word is `key=value`; one that names a file or a folder is not."""
    return "=" in word and os.sep not in word.partition("=")[0]


def is_study_file(word: str) -> bool:
    return Path(word).suffix in (".yaml", ".yml") or Path(word).is_file()


def split(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str, str, bool]]]:
    """The names, and of each filter (word, key, values, whether they are wanted). Raises UsageError."""
    names, filters = [], []
    merged: dict[tuple[str, bool], list[str]] = {}
    for word in words:
        if not word.strip():
            raise UsageError("an empty word names no run")
        if not is_filter(word):
            names.append(word)
            continue
        key, _, values = word.partition("=")
        equal = not key.endswith("!")
        key = key.removesuffix("!").strip()
        if not key or not values.strip():
            raise UsageError(f"{printable(word)}: expected key=value, such as status=failed or train.lr=1e-4")
        merged.setdefault((key, equal), []).append(values.strip())
    for (key, equal), found in merged.items():
        text = f"{key}{'' if equal else '!'}={','.join(found)}"
        filters.append((printable(text), key, ",".join(found), equal))
    return names, filters


def study_in(path: Path) -> str:
    """The name that a study file gives its study. Raises StudyError if it cannot be read or gives none."""
    data = read_document(path).data
    name = data.get("study") if isinstance(data, Mapping) else None
    if not isinstance(name, str):
        raise StudyError("not a study: it has no `study: NAME`", file=str(path))
    return name


def _epoch(word: str) -> tuple[str, int | None]:
    text, found, number = word.rpartition("@")
    if not found:
        return word, None
    if not text or not number.isascii() or not number.isdecimal() or not int(number):
        raise UnknownRunError(f"{word!r}: after the @ comes an epoch, such as {text or 'RUN'}@6")
    return text, int(number)


def _whole(word: str) -> str:
    if "@" in word and not is_study_file(word):
        raise UnknownRunError(
            f"{word!r} names an epoch, and the whole run is meant here; leave the @ and what follows out"
        )
    return word


def _key(row: RunRow) -> tuple[str | None, str]:
    return row.study, row.run_id


def _names(rows: Iterable[RunRow], most: int = 10) -> str:
    names = list(dict.fromkeys(row.name for row in rows))
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


class _Chooser:
    """All rows there are, and what their cells say of them."""

    def __init__(self, rows: Sequence[RunRow], cells: Mapping[tuple[str | None, str], CellRow], exact: bool) -> None:
        self._rows, self._cells, self._exact = rows, cells, exact
        self._studies = sorted({row.study for row in rows if row.study})

    def is_current(self, row: RunRow) -> bool:
        cell = self._cells.get(_key(row))
        return cell is None or cell.current

    def named(self, word: str, epoch: int | None) -> tuple[set[tuple[str | None, str]], int | None]:
        """The keys of the rows that a word names, and the epoch given."""
        return {_key(row) for row in self._named(word, only_run=epoch is not None)}, epoch

    def _named(self, word: str, only_run: bool = False) -> list[RunRow]:
        if not only_run and (found := self._of_study(word)):
            return found
        if any(char in word for char in "*?"):
            return self._of_pattern(word, only_run)
        text = word.rstrip("/").rpartition("/")[2]
        found = [row for row in self._rows if text in (row.name, row.run_id)]
        if found or not text:
            return found or self._unknown(word)
        found = [row for row in self._rows if row.name.startswith(text) or row.run_id.startswith(text)]
        runs = {row.run_id for row in found}
        if len(runs) > 1 and (self._exact or only_run):
            raise UnknownRunError(f"{word!r} names {len(runs)} runs: {_names(found)}")
        return found or self._unknown(word)

    def _of_study(self, word: str) -> list[RunRow]:
        name = word
        if is_study_file(word):
            name = study_in(Path(word))
            if name not in self._studies:
                raise UsageError(f"study {name} ({word}) has not been run here; known: {self._known_studies()}")
        return [row for row in self._rows if row.study == name]

    def _of_pattern(self, word: str, only_run: bool) -> list[RunRow]:
        found = [
            row
            for row in self._rows
            if any(text and fnmatchcase(text, word) for text in (None if only_run else row.study, row.name, row.run_id))
        ]
        return found or self._unknown(word)

    def _known_studies(self) -> str:
        return ", ".join(self._studies) or "none yet"

    def _unknown(self, word: str) -> list[RunRow]:
        texts = dict.fromkeys([*self._studies, *(part for row in self._rows for part in (row.name, row.run_id))])
        close = difflib.get_close_matches(word, texts, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"studies: {self._known_studies()}"
        raise UnknownRunError(f"no run or study called {word!r}; `ablate ls` lists all; {hint}")

    def filter(self, text: str, key: str, values: str) -> Callable[[RunRow], bool]:
        """A test of rows for one filter. Raises UsageError if there is no such key, or value of it."""
        if key in KINDS and key != "seed":
            return self._kind(text, key, [value.strip() for value in values.split(",") if value.strip()])
        setting = key if key == "seed" else self._setting(text, key)
        held = {_key(row): self._value(row, setting) for row in self._rows}
        forms = {row: _forms(value) for row, value in held.items()}
        wanted = _wanted(values, text)
        there = set().union(*forms.values())
        for value, ways in wanted:
            if not ways & there:
                shown = _listed(_shown(other) for other in held.values() if other is not _ABSENT)
                raise UsageError(f"{text}: no run has {setting} {value}; it is {shown}")
        every = set().union(*(ways for _, ways in wanted))
        return lambda row: bool(forms[_key(row)] & every)

    def _kind(self, text: str, kind: str, values: Sequence[str]) -> Callable[[RunRow], bool]:
        if kind in ("study", "run"):
            named = set().union(*(self._of_kind(text, kind, value) for value in values))
            return lambda row: _key(row) in named
        known: Iterable[str]
        if kind == "status":
            known = (str(state) for state in State)
        elif kind == "reason":
            known = (str(reason) for reason in Reason)
        elif kind == "tag":
            known = (tag for row in self._rows for tag in row.tags)
        else:
            known = (row.task for row in self._rows if row.task)
        there = list(dict.fromkeys(known))
        for value in values:
            if value not in there:
                close = difflib.get_close_matches(value, there, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(there) or 'none yet'}"
                raise UsageError(f"{text}: no {kind} {value!r}; {hint}")
        return lambda row: bool(_of(row, kind) & set(values))

    def _of_kind(self, text: str, kind: str, value: str) -> set[tuple[str | None, str]]:
        if kind == "run":
            return self.named(value, 1)[0]  # as with an epoch: a run, never a study
        if not (found := self._of_study(value)):
            found = [row for row in self._rows if row.study and fnmatchcase(row.study, value)]
        if not found:
            raise UsageError(f"{text}: no study called {value!r} has been run here; known: {self._known_studies()}")
        return {_key(row) for row in found}

    def _setting(self, text: str, key: str) -> str:
        """The dotted key that `key` names, whole or by its end. Raises UsageError for none or several."""
        axes = dict.fromkeys(axis for cell in self._cells.values() for axis in cell.settings)
        if (found := _matching(key, axes)) and len(found) == 1:
            return found[0]
        every = axes | dict.fromkeys(other for row in self._rows for other in row.settings)
        for configuration in {id(row.configuration): row.configuration for row in self._rows}.values():
            every |= dict.fromkeys(_flat(configuration))
        found = found or _matching(key, every)
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{text}: {key} may be {', '.join(found)}; write more of it")
        tails = {other.rpartition(".")[2]: other for other in reversed(every)} | {other: other for other in every}
        close = difflib.get_close_matches(key, [*tails, *KINDS], n=1)
        hint = f"did you mean {tails.get(close[0], close[0])}?" if close else f"axes: {', '.join(axes) or 'none yet'}"
        raise UsageError(f"{text}: no run has a setting {key}; {hint} (filters: {', '.join(KINDS)}, and any setting)")

    def _value(self, row: RunRow, key: str) -> Any:
        """The value of a setting in a run; UNKNOWN where its source does not state it."""
        cell = self._cells.get(_key(row))
        unknown = (*(cell.unknown if cell else ()), *(row.external.unknown if row.external else ()))
        if is_unknown(key, unknown):
            return UNKNOWN
        if key == "seed" and cell is not None:
            return cell.seed
        if cell is not None and key in cell.settings:
            return cell.settings[key]
        value: Any = row.configuration
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return row.settings.get(key, _ABSENT)
            value = value[part]
        return value


def _of(row: RunRow, kind: str) -> set[str]:
    if kind == "tag":
        return set(row.tags)
    value = {"status": row.status, "reason": row.reason, "task": row.task}[kind]
    return set() if value is None else {str(value)}


def _matching(key: str, known: Iterable[str]) -> list[str]:
    known = tuple(known)
    return [key] if key in known else [other for other in known if other.endswith(f".{key}")]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield prefix + key


def _wanted(values: str, text: str) -> list[tuple[str, set[Any]]]:
    """Each value as it was written, and the forms of it that may match."""
    try:
        parsed = [(_shown(value), _forms(value)) for value in parse_value(f"[{values}]", text)]
    except StudyError:
        parsed = []
    found = [(value, {("text", value.lower())}) for value in map(str.strip, values.split(",")) if value]
    return parsed if len(parsed) != len(found) else [(a, x | y) for (a, x), (_, y) in zip(parsed, found, strict=True)]


def _forms(value: Any) -> set[Any]:
    """What a value may be called: itself, and its text as tables show it."""
    return set() if value is _ABSENT else {("value", freeze(value)), ("text", _shown(value).lower())}


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return ("x" if all(type(side) is int for side in value) else ",").join(_shown(side) for side in value)
    return str(value)


def _listed(values: Iterable[str], most: int = 12) -> str:
    found = list(dict.fromkeys(values))
    return ", ".join(found[:most]) + (", …" if len(found) > most else "") if found else "stated nowhere"
