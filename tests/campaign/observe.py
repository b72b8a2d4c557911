"""An independent look at what a round left behind: its journals, its checkpoints and its database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import AblateError
from ablate.results.open import Results, open_results
from ablate.runs import journal, states
from ablate.runs.checkpoint import Checkpoints
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State
from tests.campaign.moments import Ground

Key = tuple[Any, ...]
"""(run, type, epoch, split, resolution)"""

_RECORDS = ("attempts", "epochs", "evaluations", "events")


@dataclass(frozen=True)
class Result:
    """All of a run that must not depend on what happened to it: newest records and SHA-256 of the weights."""

    records: Mapping[Key, Any]
    weights: Mapping[str, str]


@dataclass
class Findings:
    """What is wrong, by kind. Empty lists are the proof."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Everything else: runs that cannot be resumed, orphans, processes that hang."""

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        return iter(vars(self).items())

    def __bool__(self) -> bool:
        return any(found for _, found in self)

    def add(self, other: Findings) -> None:
        for kind, found in other:
            getattr(self, kind).extend(found)


def key_of(run: str, record: journal.Record) -> Key:
    return run, record.type, record.epoch, record.body.get("split"), record.body.get("resolution")


def result(paths: RunPaths) -> Result:
    """Raises an AblateError if the run cannot be read."""
    records: dict[Key, Any] = {}
    for line in journal.read(paths.journal):
        body = line.record.body
        if line.record.type == "epoch":
            records[key_of(paths.name, line.record)] = [body[key] for key in ("train_loss", "images", "order", "lr")]
        elif line.record.type == "evaluation":
            records[key_of(paths.name, line.record)] = body
    weights = {}
    manifest = Checkpoints(paths.checkpoints).latest(lambda text: None)
    if manifest is not None:
        weights = {"last": manifest.files["weights"].sha256, "best": manifest.best.sha256 if manifest.best else ""}
    return Result(records, weights)


def results(runs: Path) -> dict[str, Result]:
    return {paths.name: result(paths) for paths in RunsDir(runs).runs()}


def unfinished(runs: Path) -> list[str]:
    """Runs that are not complete, or of which that cannot be told."""
    return [paths.name for paths in RunsDir(runs).runs() if not _is_complete(paths)]


def _is_complete(paths: RunPaths) -> bool:
    try:
        return states.status(paths).state is State.COMPLETE
    except (AblateError, OSError):
        return False


class Prefixes:
    """Journals only ever grow: what an observer has read stays as it was, byte for byte."""

    def __init__(self) -> None:
        self._seen: dict[str, bytes] = {}

    def look(self, runs: Path) -> list[str]:
        """What vanished or changed since the last look."""
        found = []
        for paths in RunsDir(runs).runs():
            end = max((line.end for line in journal.read(paths.journal)), default=0)
            before = self._seen.get(paths.name, b"")
            now = paths.journal.read_bytes()[:end] if end else b""
            if not now.startswith(before):
                found.append(f"{paths.name}: a journal of {len(before)} whole bytes has become another one of {end}")
            self._seen[paths.name] = now
        return found


def compare(calm: Mapping[str, Result], now: Mapping[str, Result]) -> list[str]:
    """What came out different from the undisturbed runs."""
    found = [f"{name}: not there" for name in calm.keys() - now.keys()]
    for name in calm.keys() & now.keys():
        one, other = now[name], calm[name]
        if one.weights != other.weights:
            found.append(f"{name}: weights {one.weights}, undisturbed {other.weights}")
        for key in sorted(one.records.keys() | other.records.keys(), key=str):
            if one.records.get(key) != other.records.get(key):
                found.append(f"{key}: {one.records.get(key)}, undisturbed {other.records.get(key)}")
    return found


def inspect(ground: Ground, calm: Mapping[str, Result], acknowledged: Iterable[Mapping[str, Any]]) -> Findings:
    """A round that is over, against the undisturbed result and everything that was ever acknowledged."""
    findings = Findings()
    promised = list(acknowledged)
    names = unfinished(ground.runs)
    findings.broken += [f"{name}: not complete, {_why(ground.runs / name)}" for name in names]
    try:
        now = results(ground.runs)
    except (AblateError, OSError) as error:
        findings.broken.append(f"a run cannot be read: {error}")
        return findings
    findings.differing += compare({name: one for name, one in calm.items() if name not in names}, now)
    for paths in RunsDir(ground.runs).runs():
        _journal(paths, [record for record in promised if record["run"] == paths.name], findings)
    findings.add(inspect_database(ground, now))
    return findings


def _why(root: Path) -> str:
    try:
        return str(states.status(RunPaths(root)))
    except (AblateError, OSError) as error:
        return str(error)


def _journal(paths: RunPaths, promised: Iterable[Mapping[str, Any]], findings: Findings) -> None:
    records = [line.record for line in journal.read(paths.journal)]
    stored = {record.seq: record for record in records}
    counts = Counter(record.seq for record in records)
    findings.duplicated += [f"{paths.name}: record {seq} is there {n} times" for seq, n in counts.items() if n > 1]
    for promise in promised:
        record = stored.get(promise["seq"])
        if record is None or key_of(paths.name, record) != tuple(
            promise[key] for key in ("run", "type", "epoch", "split", "resolution")
        ):
            findings.lost.append(f"{promise}: not in its journal")
    if [line for line in records if line.body.get("name") == "differs"]:
        findings.differing.append(f"{paths.name}: the run itself noticed an epoch that came out different")


def inspect_database(ground: Ground, now: Mapping[str, Result]) -> Findings:
    """The database must hold every record of every journal, once, and show each epoch once."""
    findings = Findings()
    try:
        with open_results(ground.db, ground.runs, wait=10.0) as found:
            if not found.freshness.startswith("up to date"):
                findings.unreadable.append(found.freshness)
            _rows(ground, found, findings)
            _views(found, now, findings)
    except AblateError as error:
        findings.unreadable.append(str(error))
    findings.unreadable += [str(path) for path in ground.db.parent.glob(f"{ground.db.name}.corrupt-*")]
    return findings


def _rows(ground: Ground, found: Results, findings: Findings) -> None:
    rows = " UNION ALL ".join(f"SELECT source, seq FROM base.{table}" for table in _RECORDS)
    _, twice = found.rows(f"SELECT source, seq, count(*) FROM ({rows}) GROUP BY ALL HAVING count(*) > 1")
    findings.duplicated += [f"database row {row}" for row in twice]
    _, counts = found.rows(f"SELECT directory, count(*) FROM ({rows}) JOIN base.shown USING (source) GROUP BY ALL")
    stored: dict[str, int] = dict(counts)
    for paths in RunsDir(ground.runs).runs():
        written = sum(1 for _ in journal.read(paths.journal))
        there = stored.get(paths.name, 0)
        if there < written:
            findings.lost.append(f"{paths.name}: {there} of {written} records are in the database")
        elif there > written:
            findings.duplicated.append(f"{paths.name}: {there} records of {written} are in the database")


def _views(found: Results, now: Mapping[str, Result], findings: Findings) -> None:
    names = {row.run_id: row.name for row in found.runs()}
    _, epochs = found.rows("SELECT run_id, epoch, train_loss, lr FROM epochs")
    _, evaluations = found.rows(
        "SELECT run_id, epoch, split, resolution, d1, abs_rel, rmse, loss, images FROM evaluations"
    )
    shown: dict[Key, list[Any]] = {}
    for row in epochs:
        shown.setdefault((names[row[0]], "epoch", row[1], None, None), []).append(list(row[2:]))
    for row in evaluations:
        shown.setdefault((names[row[0]], "evaluation", *row[1:4]), []).append(list(row[4:]))
    recorded = {key: record for one in now.values() for key, record in one.records.items()}
    for key in recorded.keys() | shown.keys():
        values = shown.get(key, [])
        if key not in recorded or len(values) > 1:
            findings.duplicated.append(f"{key}: shown {len(values)} times")
        elif not values:
            findings.lost.append(f"{key}: not shown")
        elif values[0] != _expected(recorded[key]):
            findings.differing.append(f"{key}: shown as {values[0]}, recorded as {_expected(recorded[key])}")


def _expected(record: Any) -> list[Any]:
    if isinstance(record, list):  # an epoch
        return [record[0], record[3]]
    metrics = [record["metrics"].get(key) for key in ("d1", "abs_rel", "rmse")]
    return [*metrics, record["loss"], record["images"]]
