"""Typed questions to the results, for the command line and the reports."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from ablate.errors import UnknownRunError
from ablate.results.records import AttemptRow, CellRow, EpochRow, EvaluationRow, EventRow, Note, RunRow, StudyRow
from ablate.runs.origin import read_origin
from ablate.runs.states import Reason, State

if TYPE_CHECKING:
    import pandas

Answer = list[tuple[Any, ...]]

_RUNS = """
    SELECT v.run_id, v.study, v.name, r.task, v.status, v.reason, v.message, r.root, r.directory,
        coalesce(v.settings, '{}'), coalesce(v.configuration, '{}'), r.command, r.created, r.hash,
        coalesce(a.attempts, 0), e.epoch, k.epoch,
        greatest(a.wall, e.wall), r.external, n.notes, n.tags
    FROM main.runs v LEFT JOIN base.shown_runs r USING (run_id)
        LEFT JOIN (SELECT source, max(attempt) AS attempts, max(wall) AS wall FROM base.attempts GROUP BY source) a
            ON a.source = r.source
        LEFT JOIN (SELECT source, max(epoch) AS epoch, max(wall) AS wall FROM base.epochs GROUP BY source) e
            ON e.source = r.source
        LEFT JOIN base.selected k ON k.run_id = v.run_id
        LEFT JOIN base.shown_notes n ON n.run_id = v.run_id
        LEFT JOIN base.shown_cells c ON c.study = v.study AND c.run_id = v.run_id
    WHERE (?::VARCHAR IS NULL OR v.study = ?) AND (?::VARCHAR IS NULL OR v.run_id = ?)
    ORDER BY v.study NULLS LAST, c.current DESC, c.position, r.created, v.run_id"""


class Queries:
    """Asks through `fetch(sql, parameters)`. `base` is the folder that folders of runs are relative to."""

    def __init__(self, fetch: Callable[[str, Sequence[object]], Answer], base: Path) -> None:
        self._fetch = fetch
        self._base = base

    def studies(self) -> tuple[StudyRow, ...]:
        """By name."""
        rows = self._fetch(
            """SELECT s.study, s.task, s.file, s.text, s.overrides, s.selection, s.axes, s.wandb, s.declared, v.cells
            FROM base.shown_studies s JOIN main.studies v USING (study) ORDER BY s.study""",
            [],
        )
        return tuple(_study(_parsed(row, 4, 5, 6, 7)) for row in rows)

    def cells(
        self, study: str | None = None, *, current: bool = True, run_id: str | None = None
    ) -> tuple[CellRow, ...]:
        """In the order of the study; with `current=False` also those that only an earlier version declared."""
        rows = self._fetch(
            """SELECT study, run_id, name, position, settings, seed, baseline, current,
                coalesce(notes, '[]'), coalesce(unknown, '[]') FROM base.shown_cells
            WHERE (?::VARCHAR IS NULL OR study = ?) AND (?::VARCHAR IS NULL OR run_id = ?) AND (current OR NOT ?)
            ORDER BY study, current DESC, position""",
            [study, study, run_id, run_id, current],
        )
        return tuple(CellRow(*_parsed(row, 4, 8, 9)) for row in rows)

    def runs(self, study: str | None = None, *, run_id: str | None = None) -> tuple[RunRow, ...]:
        """One row per run and study that holds it, in the order of the study's cells."""
        return tuple(self._run(row) for row in self._fetch(_RUNS, [study, study, run_id, run_id]))

    def _run(self, row: tuple[Any, ...]) -> RunRow:
        *names, status, reason, message, root, name, settings, configuration = row[:11]
        folder = None if name is None else Path(os.path.normpath(self._base / root / name))
        where = [State(status), None if reason is None else Reason(reason), message, folder]
        external, notes, tags = _parsed(row[-3:], 0, 1, 2)
        said = (read_origin(external), tuple(Note(**note) for note in notes or ()), tuple(tags or ()))
        return RunRow(*names, *where, *_parsed((settings, configuration, *row[11:-3], *said), 0, 1))

    def resolve(self, prefix: str) -> RunRow:
        """The run whose name, id or directory is `prefix`, or whose name or id alone starts with it.

        Raises UnknownRunError with the closest names if there is none, with the candidates if there are several.
        """
        text = prefix.rstrip("/").rpartition("/")[2]
        names = self._fetch("SELECT DISTINCT run_id, name FROM main.runs ORDER BY name", [])
        exact = [row for row in names if text in row]
        found = exact or [row for row in names if text and any(part.startswith(text) for part in row)]
        if len(found) == 1:
            return self.runs(run_id=found[0][0])[0]
        if found:
            shown = ", ".join(name for _, name in found[:10]) + (", …" if len(found) > 10 else "")
            raise UnknownRunError(f"{prefix!r} names {len(found)} runs: {shown}")
        close = difflib.get_close_matches(text, [part for row in names for part in row], n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UnknownRunError(f"no run called {prefix!r}; `ablate ls` lists all{hint}")

    def attempts(self, run_id: str) -> tuple[AttemptRow, ...]:
        rows = self._fetch(
            """SELECT attempt, wall, host, pid, device, threads, command, versions, git, resumed_from, facts
            FROM base.attempts JOIN base.shown s USING (source) WHERE s.run_id = ? ORDER BY attempt, seq""",
            [run_id],
        )
        return tuple(AttemptRow(*_parsed(row, 7, 8, 9, 10)) for row in rows)

    def epochs(self, run_id: str) -> tuple[EpochRow, ...]:
        rows = self._fetch(
            """SELECT run_id, epoch, train_loss, lr, seconds, images, images_per_second, peak_memory_mb
            FROM base.shown_epochs WHERE run_id = ? ORDER BY epoch""",
            [run_id],
        )
        return tuple(EpochRow(*row) for row in rows)

    def evaluations(self, run_id: str) -> tuple[EvaluationRow, ...]:
        """All evaluations of one run, by epoch."""
        return self._evaluations("WHERE s.run_id = ?", [run_id])

    def kept_evaluations(self, run_ids: Sequence[str]) -> tuple[EvaluationRow, ...]:
        """Those of the selected and of the last epoch of each run: what reports are made from."""
        kept = "JOIN base.kept k ON k.run_id = s.run_id AND k.epoch = e.epoch"
        return self._evaluations(f"{kept} WHERE s.run_id IN (SELECT unnest(?::VARCHAR[]))", [list(run_ids)])

    def _evaluations(self, which: str, parameters: Sequence[object]) -> tuple[EvaluationRow, ...]:
        # As in `base.shown_evaluations`, but filtered first: ranking all epochs of 10,000 runs takes a second.
        rows = self._fetch(
            f"""SELECT s.run_id, e.epoch, e.split, e.resolution, e.metrics, e.loss, e.images, e.skipped, e.protocol
            FROM base.evaluations e JOIN base.shown s USING (source) {which}
            QUALIFY row_number() OVER (
                PARTITION BY s.run_id, e.epoch, e.split, e.resolution ORDER BY e.attempt DESC, e.seq DESC) = 1
            ORDER BY s.run_id, e.epoch, e.split, e.seq""",
            parameters,
        )
        return tuple(EvaluationRow(*_parsed(row, 8)) for row in rows)

    def validation_losses(
        self, run_ids: Sequence[str], split: str = "val"
    ) -> dict[tuple[str, str], tuple[tuple[int, float | None], ...]]:
        """(epoch, loss) of every epoch, by (run id, resolution)."""
        # arg_max and not a ranking: see `_evaluations`
        rows = self._fetch(
            """SELECT s.run_id, e.resolution, e.epoch, arg_max(coalesce(e.loss, 'nan'), (e.attempt, e.seq))
            FROM base.evaluations e JOIN base.shown s USING (source)
            WHERE e.split = ? AND s.run_id IN (SELECT unnest(?::VARCHAR[]))
            GROUP BY ALL ORDER BY s.run_id, e.resolution, e.epoch""",
            [split, list(run_ids)],
        )
        found: dict[tuple[str, str], list[tuple[int, float | None]]] = {}
        for run_id, resolution, epoch, loss in rows:
            found.setdefault((run_id, resolution), []).append((epoch, None if math.isnan(loss) else loss))
        return {key: tuple(losses) for key, losses in found.items()}

    def effort(self, run_ids: Sequence[str]) -> dict[str, tuple[int | None, float | None]]:
        """(training images of the newest epoch, seconds of training of all epochs) of each run that has trained one."""
        rows = self._fetch(
            """SELECT run_id, arg_max(images, epoch), sum(seconds) FROM base.shown_epochs
            WHERE run_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY run_id""",
            [list(run_ids)],
        )
        return {run_id: (images, seconds) for run_id, images, seconds in rows}

    def selected(self, run_ids: Sequence[str]) -> dict[str, int]:
        """The best epoch of each run, as the run itself selected it; runs that have not are left out."""
        rows = self._fetch(
            "SELECT run_id, epoch FROM base.selected WHERE run_id IN (SELECT unnest(?::VARCHAR[]))", [list(run_ids)]
        )
        return dict(rows)

    def events(self, run_id: str, name: str | None = None) -> tuple[EventRow, ...]:
        rows = self._fetch(
            """SELECT s.run_id, e.seq, e.attempt, e.epoch, e.step, e.wall, e.name, e.body
            FROM base.events e JOIN base.shown s USING (source)
            WHERE s.run_id = ? AND (?::VARCHAR IS NULL OR e.name = ?) ORDER BY e.seq""",
            [run_id, name, name],
        )
        return tuple(EventRow(*_parsed(row, 7)) for row in rows)

    def changed(self, run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What was different when each run went on, in words: another device, torch or data. Most have nothing."""
        rows = self._fetch(
            """SELECT s.run_id, e.attempt, e.body ->> 'text' FROM base.events e JOIN base.shown s USING (source)
            WHERE e.name = 'changed' AND s.run_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY s.run_id, e.seq""",
            [list(run_ids)],
        )
        found: dict[str, tuple[str, ...]] = {}
        for run_id, attempt, text in rows:
            found[run_id] = (*found.get(run_id, ()), f"attempt {attempt}: {text}")
        return found

    def data_of(self, run_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """(fingerprint, hash of the contents) of the data that the newest attempt of each run found.

        Runs of a task that records none are left out, and so are those that have not looked at their data yet.
        """
        rows = self._fetch(
            """SELECT s.run_id, e.body ->> '$.facts.fingerprint', coalesce(e.body ->> '$.facts.contents', '')
            FROM base.events e JOIN base.shown s USING (source)
            WHERE e.name = 'checked' AND s.run_id IN (SELECT unnest(?::VARCHAR[]))
            QUALIFY row_number() OVER (PARTITION BY s.run_id ORDER BY e.attempt DESC, e.seq DESC) = 1""",
            [list(run_ids)],
        )
        return {run_id: (fingerprint, contents) for run_id, fingerprint, contents in rows if fingerprint}

    def marks_of(self, run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What a reader of the numbers must know of how they came about, one sentence each.

        Rollbacks, rungs of the memory ladder, and what the task marks a run with (`facts["marks"]`).
        """
        rows = self._fetch(
            """SELECT s.run_id, e.name, CAST(e.body AS VARCHAR)
            FROM base.events e JOIN base.shown s USING (source)
            WHERE e.name IN ('opened', 'rollback', 'ladder') AND s.run_id IN (SELECT unnest(?::VARCHAR[]))
            ORDER BY s.run_id, e.attempt, e.seq""",
            [list(run_ids)],
        )
        found: dict[str, dict[str, None]] = {}
        for run_id, name, body in rows:
            found.setdefault(run_id, {}).update(dict.fromkeys(_marks(name, json.loads(body))))
        return {run_id: tuple(sentences) for run_id, sentences in found.items()}

    def problems(self) -> tuple[str, ...]:
        """What could not be read when the runs were last taken in."""
        rows = self._fetch("SELECT problem FROM base.sources WHERE present AND problem IS NOT NULL ORDER BY 1", [])
        return tuple(problem for (problem,) in rows)

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> Answer:
        """The rows of any query, over the tables too; for modules of this room."""
        return self._fetch(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Answer]:
        """Any query over the public views: the column names and the rows."""
        return self._describe(sql, parameters), self._fetch(sql, parameters)

    def frame(self, sql: str, parameters: Sequence[object] = ()) -> pandas.DataFrame:
        """The answer to any query over the public views as a pandas table, for notebooks."""
        import pandas

        columns, rows = self.rows(sql, parameters)
        return pandas.DataFrame(rows, columns=columns)

    def _describe(self, sql: str, parameters: Sequence[object]) -> list[str]:
        return [row[0] for row in self._fetch(f"DESCRIBE {sql}", parameters)]


def _study(values: list[Any]) -> StudyRow:
    select: dict[str, Any] = dict(values[5])
    compare, metric = select.pop("compare", None), select.pop("primary", None)
    return StudyRow(*[*values[:5], select, *values[6:], compare, metric])


def _parsed(row: tuple[Any, ...], *places: int) -> list[Any]:
    """The row with the JSON texts at `places` read."""
    values = list(row)
    for place in places:
        values[place] = None if row[place] is None else json.loads(row[place])
    return values


def fetch_from(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object]) -> Answer:
    return connection.execute(sql, list(parameters)).fetchall()


def _marks(name: str, body: Mapping[str, Any]) -> list[str]:
    if name == "opened":
        return [str(mark) for mark in body.get("facts", {}).get("marks", ())]
    if name == "rollback":
        return [
            f"diverged and went back to the start of epoch {body.get('to_epoch')}, from there at "
            f"{body.get('lr_factor'):g} times the learning rate of the study"
        ]
    return [f"memory ran out (rung {body.get('rung')} of the memory ladder): {body.get('did')}"]
