"""The arms of a study: runs that differ in their seed alone, what to call them, and under `compare: tuned` the best."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.report.comparability import Estimand, Tuned
from ablate.report.stats.seeds import SeedSummary
from ablate.report.tuning import Trial, chosen, unequal
from ablate.results.records import CellRow
from ablate.runs.states import State
from ablate.study.remarks import UNKNOWN
from ablate.task import Direction

if TYPE_CHECKING:
    from ablate.report.summary import RunSummary

ENDED = (State.COMPLETE, State.FAILED)
_LONGEST = 60


@dataclass(frozen=True)
class Group:
    """The runs of one setting. `baseline` is the name of the group that it is compared with.

    Under `compare: tuned`, `stands_for` are the trials that it was the best of, and `unfair` says why it was not tuned
    as the study says, if so.
    """

    name: str
    settings: Mapping[str, Any]
    runs: tuple[RunSummary, ...]
    baseline: str | None = None
    stands_for: tuple[str, ...] = ()
    unfair: tuple[str, ...] = ()

    @property
    def external(self) -> bool:
        return any(run.external is not None for run in self.runs)

    @property
    def complete(self) -> tuple[RunSummary, ...]:
        return tuple(run for run in self.runs if run.status is State.COMPLETE)

    def seeds(self) -> dict[int, RunSummary]:
        """The complete runs by seed; an imported run of unknown seed counts as seed 0."""
        return {run.seed or 0: run for run in self.complete}


def groups_of(rows: Sequence[RunSummary], cells: Mapping[str, CellRow], axes: Sequence[str]) -> list[Group]:
    """Runs that agree in every axis, in the order of the study, with the group that the study compares each with.

    Imported runs are each by itself, and so are runs that agree in all axes and in the seed: what else they differ in
    is no axis.
    """
    found: dict[str, list[RunSummary]] = {}
    for row in rows:
        alone = row.run_id if row.external is not None else None
        key = json.dumps([_settings(row, cells), alone], sort_keys=True, default=str)
        found.setdefault(key, []).append(row)
    parts: list[list[RunSummary]] = []
    for members in found.values():
        seeds = [row.seed for row in members]
        parts += [members] if len(set(seeds)) == len(seeds) else [[row] for row in members]
    names = _names([_settings(part[0], cells) for part in parts], [part[0] for part in parts], axes)
    of_run = {row.run_id: name for name, part in zip(names, parts, strict=True) for row in part}
    return [
        Group(name, _settings(part[0], cells), tuple(part), _baseline(part, name, of_run))
        for name, part in zip(names, parts, strict=True)
    ]


def _settings(row: RunSummary, cells: Mapping[str, CellRow]) -> Mapping[str, Any]:
    return cells[row.run_id].settings if row.run_id in cells else row.settings


def _baseline(part: Sequence[RunSummary], name: str, of_run: Mapping[str, str]) -> str | None:
    found = next((of_run.get(row.baseline) for row in part if row.baseline is not None), None)
    return None if found == name else found


def _names(settings: Sequence[Mapping[str, Any]], rows: Sequence[RunSummary], axes: Sequence[str]) -> list[str]:
    """'performer, lr 1e-05': the values of the axes that vary; the name of a run where that is not enough."""
    varying = [axis for axis in axes if len({_text(one.get(axis, ...)) for one in settings}) > 1]
    short = short_names(varying)
    names = [
        row.name if row.external is not None else _joined(one, varying, short) or row.name
        for one, row in zip(settings, rows, strict=True)
    ]
    return [
        row.name if names.count(name) > 1 or len(name) > _LONGEST else name
        for name, row in zip(names, rows, strict=True)
    ]


def short_names(axes: Iterable[str]) -> dict[str, str]:
    """`train.lr` -> `lr`, but whole keys where the last part would be ambiguous."""
    axes = tuple(axes)
    last = [axis.rpartition(".")[2] for axis in axes]
    return {axis: name if last.count(name) == 1 else axis for axis, name in zip(axes, last, strict=True)}


def _joined(settings: Mapping[str, Any], axes: Sequence[str], short: Mapping[str, str]) -> str:
    parts = []
    for axis in axes:
        if axis in settings:
            value = settings[axis]
            parts.append(value if isinstance(value, str) else f"{short[axis]} {value_text(value)}")
    return ", ".join(parts)


def value_text(value: Any) -> str:
    """A setting as people write it: sizes as HxW, `none`, numbers short."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(side) is int for side in value):
        return f"{value[0]}x{value[1]}"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _text(value: Any) -> str:
    return "absent" if value is ... else json.dumps(value, sort_keys=True, default=str)


def tuned(
    groups: Sequence[Group],
    estimand: Estimand,
    scores: Mapping[str, SeedSummary],
    better: Direction,
    axes: Sequence[str],
) -> list[Group]:
    """One group per family of trials: the best by `scores` (name of the group -> on validation)."""
    if not isinstance(estimand, Tuned):
        return list(groups)
    families: dict[str, list[Group]] = {}
    of_group: dict[str, str] = {}
    for group in groups:
        rest = {key: value for key, value in group.settings.items() if key not in estimand.over}
        key = json.dumps([rest, group.name if group.external else None], sort_keys=True, default=str)
        families.setdefault(key, []).append(group)
        of_group[group.name] = key
    rest_axes = [axis for axis in axes if axis not in estimand.over]
    names = dict(zip(families, _family_names(list(families.values()), rest_axes), strict=True))
    listed = {names[key]: [_trial(one, estimand, scores) for one in family] for key, family in families.items()}
    imported = {names[key] for key, family in families.items() if family[0].external}
    problems = unequal({name: trials for name, trials in listed.items() if name not in imported}, estimand)
    found = []
    for key, family in families.items():
        name = names[key]
        best = chosen(listed[name], better)
        group = next((one for one in family if best is not None and one.name == best.name), family[0])
        baseline = next((names[of_group[one.baseline]] for one in family if one.baseline is not None), None)
        unfinished = [one.name for one in family if any(run.status not in ENDED for run in one.runs)]
        unfair = (
            *problems.get(name, ()),
            *([f"not all trials have ended: {', '.join(unfinished)}"] if unfinished else []),
        )
        stands_for = tuple(one.name for one in family)
        found.append(
            Group(name, group.settings, group.runs, None if baseline == name else baseline, stands_for, unfair)
        )
    return found


def _family_names(families: Sequence[Sequence[Group]], axes: Sequence[str]) -> list[str]:
    return _names([family[0].settings for family in families], [family[0].runs[0] for family in families], axes)


def _trial(group: Group, estimand: Tuned, scores: Mapping[str, SeedSummary]) -> Trial:
    values = {key: group.settings.get(key, UNKNOWN) for key in estimand.over}
    return Trial(group.name, values, scores.get(group.name, SeedSummary(None, None, 0, len(group.runs))))
