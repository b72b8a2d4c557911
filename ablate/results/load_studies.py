"""The SQL that stores what study files declared."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import duckdb

from ablate.errors import RecordError
from ablate.results.scan import stamp
from ablate.runs import files
from ablate.runs.paths import RunsDir
from ablate.study.record import StudyRecord

_CELLS = json.dumps(
    [{"run_id": "VARCHAR", "name": "VARCHAR", "position": "INTEGER", "settings": "JSON", "seed": "BIGINT",
      "baseline": "VARCHAR", "current": "BOOLEAN", "notes": "JSON", "unknown": "JSON"}]
)  # fmt: skip


def take_in(connection: duckdb.DuckDBPyConnection, runs_dir: RunsDir, root: str) -> list[str]:
    """Brings all studies of `runs_dir` up to date; returns what is wrong with those that cannot be read."""
    known: dict[str, tuple[int, str]] = {
        study: (revision, seen)
        for study, revision, seen in connection.execute(
            "SELECT study, revision, stamp FROM base.study_files WHERE present AND root = ?", [root]
        ).fetchall()
    }
    problems = []
    found = {path.stem: path for path in sorted(runs_dir.studies.glob("*.json"))} if runs_dir.studies.is_dir() else {}
    for study, path in found.items():
        seen = stamp(path)
        if study in known and known[study][1] == seen:
            continue
        try:
            _store(connection, root, study, path, seen)
        except (RecordError, OSError) as error:
            problems.append(str(error))
    for study in known.keys() - found.keys():
        connection.execute("UPDATE base.study_files SET present = false WHERE root = ? AND study = ?", [root, study])
    return problems


def _store(connection: duckdb.DuckDBPyConnection, root: str, study: str, path: Path, seen: str) -> None:
    record = StudyRecord.from_json(files.read_plain(path), str(path))
    row = _row(record)
    cells = _text([asdict(cell) for cell in record.cells])
    connection.begin()
    try:
        newest = connection.execute(
            "SELECT coalesce(max(revision), 0) + 1 FROM base.studies WHERE root = ? AND study = ?", [root, study]
        ).fetchone()
        key = [root, study, newest[0] if newest else 1]
        connection.execute(f"INSERT INTO base.studies VALUES (?, ?, ?, {', '.join('?' * len(row))})", [*key, *row])
        connection.execute(
            "INSERT INTO base.cells SELECT ?, ?, ?, c.run_id, c.name, c.position, c.settings, c.seed, c.baseline, "
            f"c.current, c.notes, c.unknown FROM (SELECT unnest(from_json(?, '{_CELLS}')) AS c)",
            [*key, cells],
        )
        connection.execute("DELETE FROM base.study_files WHERE root = ? AND study = ?", [root, study])
        connection.execute("INSERT INTO base.study_files VALUES (?, ?, ?, ?, true)", [*key, seen])
    except BaseException as error:
        connection.rollback()
        if isinstance(error, (duckdb.DataError, duckdb.ProgrammingError)):
            first = str(error).partition("\n")[0]
            raise RecordError(f"{path}: cannot be stored ({first})") from error
        raise
    connection.commit()


def _row(record: StudyRecord) -> list[object]:
    # what verdicts are about stands beside what selects epochs: one column, and databases stay as they are
    selection = {**record.select, "compare": record.compare, "primary": record.metric}
    declared = (_text(record.overrides), _text(selection), record.declared, _text(record.axes), _text(record.wandb))
    return [record.task, record.file, record.text, *declared]


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
