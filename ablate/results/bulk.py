"""What was recorded of many runs, in one question each: a page about 1,000 runs cannot ask run by run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.results.queries import Queries
from ablate.results.records import AttemptRow, EpochRow, EvaluationRow, EventRow

_THESE = "s.run_id IN (SELECT unnest(?::VARCHAR[]))"


@dataclass(frozen=True)
class Recorded:
    """Of one run: by attempt, by epoch and in the order of the journal."""

    attempts: tuple[AttemptRow, ...] = ()
    epochs: tuple[EpochRow, ...] = ()
    evaluations: tuple[EvaluationRow, ...] = ()
    """Of one split, at every resolution."""
    events: tuple[EventRow, ...] = ()


def recorded(
    results: Queries, run_ids: Sequence[str], *, split: str = "val", leaving_out: Sequence[str] = ()
) -> dict[str, Recorded]:
    """By run id; every id asked for is there. `leaving_out` are names of events."""
    ids = list(dict.fromkeys(run_ids))
    attempts = _by_run(_attempts(results, ids))
    epochs = _by_run((row.run_id, row) for row in _epochs(results, ids))
    evaluations = _by_run((row.run_id, row) for row in _evaluations(results, ids, split))
    events = _by_run((row.run_id, row) for row in _events(results, ids, leaving_out))
    return {
        run_id: Recorded(
            tuple(attempts.get(run_id, ())),
            tuple(epochs.get(run_id, ())),
            tuple(evaluations.get(run_id, ())),
            tuple(events.get(run_id, ())),
        )
        for run_id in ids
    }


def _by_run(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for run_id, row in pairs:
        found.setdefault(run_id, []).append(row)
    return found


def _attempts(results: Queries, ids: list[str]) -> Iterable[tuple[str, AttemptRow]]:
    _, rows = results.rows(
        f"""SELECT s.run_id, a.attempt, a.wall, a.host, a.pid, a.device, a.threads, a.command, a.versions, a.git,
            a.resumed_from, a.facts FROM base.attempts a JOIN base.shown s USING (source)
        WHERE {_THESE} ORDER BY s.run_id, a.attempt, a.seq""",
        [ids],
    )
    for run_id, *values, versions, git, resumed_from, facts in rows:
        yield run_id, AttemptRow(*values, *map(_read, (versions, git, resumed_from, facts)))


def _epochs(results: Queries, ids: list[str]) -> Iterable[EpochRow]:
    _, rows = results.rows(
        """SELECT run_id, epoch, train_loss, lr, seconds, images, images_per_second, peak_memory_mb
        FROM base.shown_epochs WHERE run_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY run_id, epoch""",
        [ids],
    )
    return (EpochRow(*row) for row in rows)


def _evaluations(results: Queries, ids: list[str], split: str) -> Iterable[EvaluationRow]:
    _, rows = results.rows(
        f"""SELECT s.run_id, e.epoch, e.split, e.resolution, e.metrics, e.loss, e.images, e.skipped, e.protocol
        FROM base.evaluations e JOIN base.shown s USING (source) WHERE {_THESE} AND e.split = ?
        QUALIFY row_number() OVER (
            PARTITION BY s.run_id, e.epoch, e.split, e.resolution ORDER BY e.attempt DESC, e.seq DESC) = 1
        ORDER BY s.run_id, e.epoch, e.seq""",
        [ids, split],
    )
    return (EvaluationRow(*_parsed(row)) for row in rows)


def _events(results: Queries, ids: list[str], leaving_out: Sequence[str]) -> Iterable[EventRow]:
    _, rows = results.rows(
        f"""SELECT s.run_id, e.seq, e.attempt, e.epoch, e.step, e.wall, e.name, e.body
        FROM base.events e JOIN base.shown s USING (source)
        WHERE {_THESE} AND NOT list_contains(?::VARCHAR[], e.name) ORDER BY s.run_id, e.seq""",
        [ids, list(leaving_out)],
    )
    return (EventRow(*_parsed(row)) for row in rows)


def _parsed(row: tuple[Any, ...]) -> list[Any]:
    """The row with the JSON text at its end read."""
    return [*row[:-1], _read(row[-1])]


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)
