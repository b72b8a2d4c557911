"""What differs between two runs: configuration, data, environment and metrics, as far as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.errors import UnknownRunError
from ablate.results.queries import Queries
from ablate.results.records import AttemptRow, EvaluationRow, RunRow
from ablate.study.remarks import UNKNOWN, is_unknown

SECTIONS = ("run", "configuration", "data", "environment", "metrics")
_FACTS = ("platform", "processor")


@dataclass(frozen=True)
class Difference:
    """One thing in which the runs differ. None: the run has no such thing; `unknown`: its source does not state it.

    `change` is second less first, for metrics.
    """

    section: str
    key: str
    first: Any
    second: Any
    change: float | None = None


def differences(
    results: Queries, first: RunRow, second: RunRow, epochs: tuple[int | None, int | None] = (None, None)
) -> tuple[Difference, ...]:
    """In the order of `SECTIONS`; metrics are those of `epochs`, by default of the epochs that the runs selected.

    Raises UnknownRunError if a run has nothing of the epoch that is asked for.
    """
    runs = (first, second)
    reported = [epoch or run.selected_epoch or run.last_epoch for run, epoch in zip(runs, epochs, strict=True)]
    evaluated = [
        _evaluations(results, run, epoch, asked=asked is not None)
        for run, epoch, asked in zip(runs, reported, epochs, strict=True)
    ]
    told = {
        "run": [_standing(run, epoch) for run, epoch in zip(runs, reported, strict=True)],
        "configuration": [_known(results, run) for run in runs],
        "data": [_data(results, run) for run in runs],
        "environment": [_environment(results.attempts(run.run_id)) for run in runs],
    }
    found = [Difference(section, *entry) for section, (one, two) in told.items() for entry in _differing(one, two)]
    return (*found, *_metrics(*evaluated))


def _standing(run: RunRow, epoch: int | None) -> dict[str, Any]:
    return {"status": str(run.status), "reason": None if run.reason is None else str(run.reason), "epoch": epoch}


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What is unknown differs from everything, and from another unknown."""
    for key in dict.fromkeys((*one, *two)):
        if one.get(key) != two.get(key) or one.get(key) == UNKNOWN:
            yield key, one.get(key), two.get(key)


def _known(results: Queries, run: RunRow) -> dict[str, Any]:
    """The configuration by dotted key; groups that are unknown as a whole have one entry."""
    unknown = _unknown(results, run)
    stated = {key: value for key, value in _flat(run.configuration).items() if not is_unknown(key, unknown)}
    return stated | dict.fromkeys(unknown, UNKNOWN)


def _unknown(results: Queries, run: RunRow) -> tuple[str, ...]:
    said = [key for cell in results.cells(run_id=run.run_id) for key in cell.unknown]
    return (*said, *(run.external.unknown if run.external else ()))


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) and inner else {prefix + key: inner}
    return found


def _data(results: Queries, run: RunRow) -> dict[str, Any]:
    fingerprint, contents = results.data_of([run.run_id]).get(run.run_id, (None, None))
    return {"fingerprint": fingerprint, "contents": contents or None}


def _environment(attempts: tuple[AttemptRow, ...]) -> dict[str, Any]:
    """Of the newest attempt."""
    if not attempts:
        return {}
    last = attempts[-1]
    git = last.git or {}
    return {
        **{key: getattr(last, key) for key in ("host", "device", "threads")},
        **{key: last.facts[key] for key in _FACTS if key in (last.facts or {})},
        **_flat(last.versions or {}, "versions."),
        "git.commit": git.get("commit"),
        "git.dirty": git.get("dirty"),
    }


def _evaluations(
    results: Queries, run: RunRow, epoch: int | None, *, asked: bool
) -> dict[tuple[str, str], EvaluationRow]:
    rows = results.evaluations(run.run_id)
    found = {(row.split, row.resolution): row for row in rows if row.epoch == epoch}
    if asked and not found:
        known = sorted({row.epoch for row in rows})
        have = f"it has {known[0]} to {known[-1]}" if known else "it has none yet"
        raise UnknownRunError(f"{run.name} has no epoch {epoch} with numbers; {have}")
    return found


def _metrics(
    one: Mapping[tuple[str, str], EvaluationRow], two: Mapping[tuple[str, str], EvaluationRow]
) -> Iterator[Difference]:
    for place in sorted({*one, *two}):
        values = [_values(known.get(place)) for known in (one, two)]
        for key, first, second in _differing(*values):
            both = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
            yield Difference("metrics", "/".join((*place, key)), first, second, second - first if both else None)


def _values(row: EvaluationRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    counted = {"images": row.images, "skipped": row.skipped}
    return {**row.metrics, "loss": row.loss, **counted, **_flat(row.protocol, "protocol.")}
