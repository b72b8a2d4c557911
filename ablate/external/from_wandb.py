"""wandb's offline files as runs: what maps goes under the names that it has here, and the rest is kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ablate.errors import DataError
from ablate.external import names
from ablate.external.log import plain
from ablate.external.store import Found, unstated
from ablate.external.wandb_file import Session, flat, read_session
from ablate.runs import files, notes
from ablate.runs.external import Entry
from ablate.runs.notes import MAX_TAG, MAX_TEXT, Note, Notes
from ablate.runs.origin import Origin
from ablate.runs.states import Outcome, Reason, State
from ablate.study.settings import catalogue
from ablate.task import Metric, Task

_EPOCH = ("epoch", "train/epoch", "trainer/epoch")
_OF_WANDB = ("_timestamp", "_runtime", "_wandb")


class Words(Protocol):
    """What the settings of somebody's script mean to a task; `ablate.depth.logged` is one."""

    def settings_of_script(self, config: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]: ...

    def excluded(self, stated: Mapping[str, Any]) -> frozenset[str]: ...


def read_folder(folder: Path, task: Task, words: Words) -> tuple[list[Found], list[str]]:
    """The runs of all `run-*.wandb` below a folder, and remarks. Sessions of one run, by its wandb id, are one run.

    Raises DataError if there is none, or if a file is none of wandb's.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds wandb's `offline-run-*`")
    paths = sorted(path for path in folder.rglob("run-*.wandb") if path.is_file() and not path.is_symlink())
    sessions: dict[str, list[Session]] = {}
    remarks = []
    for path in paths:
        session = read_session(path)
        if session.damage:
            remarks.append(f"{path}: {session.damage}; what is before that was read")
        if session.run_id:
            sessions.setdefault(session.run_id, []).append(session)
        else:
            remarks.append(f"{path}: left out: it does not say which run it is of")
    if not sessions:
        raise DataError(
            f"{folder}: holds no run of wandb's offline mode (offline-run-*/run-*.wandb)" + _listed(remarks)
        )
    return [_found(run, task, words, remarks) for run in sessions.values()], remarks


def _listed(remarks: Sequence[str]) -> str:
    return "".join(f"\n  {remark}" for remark in remarks[:20])


@dataclass
class _Numbers:
    """A run's history, sorted: by epoch what has a name here, and the rest."""

    metrics: Sequence[Metric]
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    evaluations: dict[tuple[int, str, str], dict[str, Any]] = field(default_factory=dict)
    rest: list[Entry] = field(default_factory=list)
    counted: bool = False
    """Whether epochs were counted, because no row says which it is of."""

    def take(self, history: Sequence[tuple[int, dict[str, Any]]]) -> None:
        says = any(_epoch(row) is not None for _, row in history)
        often = _logged_often(history)
        epoch = 0
        for step, row in history:
            given = _epoch(row)
            evaluated = {key: found for key in row if (found := names.of_evaluation(key, self.metrics))}
            if given is not None:
                epoch = given
            elif not says and evaluated:
                epoch, self.counted = epoch + 1, True
            self._row(step, epoch, row, evaluated, often)

    def _row(
        self, step: int, epoch: int, row: Mapping[str, Any], evaluated: Mapping[str, names.Meaning], often: set[str]
    ) -> None:
        rest: dict[str, Any] = {}
        for key, value in row.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            field_ = names.of_epoch(key)
            if key in evaluated and (number or value is None):
                found = evaluated[key]
                self.evaluations.setdefault((epoch, found.split, found.resolution), {})[found.key] = value
            elif field_ and number and key not in often and epoch:
                self.epochs.setdefault(epoch, {})[field_] = value
            elif key not in _EPOCH and key not in _OF_WANDB:
                rest[key] = value
        if rest:
            self.rest.append(Entry("event", epoch, max(0, step), {"name": "wandb", "values": rest}))

    def entries(self) -> Iterator[Entry]:
        yield from self.rest
        fields = ("train_loss", "lr", "seconds", "images", "images_per_second", "peak_memory_mb", "order")
        for epoch, values in sorted(self.epochs.items()):
            yield Entry("epoch", epoch, 0, {key: values.get(key) for key in fields})
        for (epoch, split, resolution), values in sorted(self.evaluations.items()):
            loss = values.pop("loss", None)
            body: dict[str, Any] = {"split": split, "resolution": resolution, "metrics": values, "loss": loss,
                    "images": None, "skipped": None, "protocol": {}, "scores": []}  # fmt: skip
            yield Entry("evaluation", epoch, 0, body)


def _epoch(row: Mapping[str, Any]) -> int | None:
    """The epoch that a row says it is of; whole numbers from 0 only."""
    for key in _EPOCH:
        value = row.get(key)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 <= value < 2**31
            and value == int(value)
        ):
            return int(value)
    return None


def _logged_often(history: Sequence[tuple[int, dict[str, Any]]]) -> set[str]:
    """Names of which an epoch has several numbers: those of single steps, not of epochs."""
    seen: set[tuple[int, str]] = set()
    often: set[str] = set()
    epoch = 0
    for _, row in history:
        given = _epoch(row)
        epoch = epoch if given is None else given
        for key in row:
            often |= {key} if (epoch, key) in seen else set()
            seen.add((epoch, key))
    return often


def _found(sessions: Sequence[Session], task: Task, words: Words, remarks: list[str]) -> Found:
    # A copy of a folder may hold wandb's `latest-run` twice.
    once = {files.sha256_of(session.path): session for session in sessions}
    digests, sessions = zip(*sorted(once.items(), key=lambda item: (item[1].started, str(item[1].path))), strict=True)
    last = sessions[-1]
    rows: dict[int, dict[str, Any]] = {}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for session in sessions:
        config |= session.config
        summary |= session.summary
        for step, row in session.history:
            rows[step] = rows.get(step, {}) | row
    config.pop("_wandb", None)
    numbers = _Numbers(tuple(task.metrics))
    numbers.take(sorted(rows.items()))
    if numbers.counted:
        remarks.append(f"wandb run {last.run_id}: no row says its epoch; evaluations were counted in order")
    stated = _stated(config, task, words)
    origin = Origin(
        kind="wandb",
        file=plain(last.run_id),
        sha256=digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
        row=0,
        title=plain(last.name or last.run_id),
        unknown=unstated(task, stated, words.excluded(stated)),
        facts=_facts(sessions, config, summary, numbers),
    )
    return Found(
        origin=origin,
        slug=f"wandb-{last.name or last.run_id}",
        stated=stated,
        entries=tuple(_entries(origin, numbers, summary)),
        outcome=_outcome(last),
        content=[last.entity, last.project, last.run_id, list(digests)],
        command="ablate import wandb",
        kept=_kept(last),
    )


def _stated(config: Mapping[str, Any], task: Task, words: Words) -> dict[str, Any]:
    """Settings whose values could stand here; all others are kept as they are among the facts."""
    known = catalogue(task.Config)
    found = words.settings_of_script(config, known.settings)
    return {key: value for key, value in found.items() if value is not None and not any(known.check(key, value))}


def _facts(
    sessions: Sequence[Session], config: Mapping[str, Any], summary: Mapping[str, Any], numbers: _Numbers
) -> dict[str, Any]:
    last = sessions[-1]
    found = {
        **{key: getattr(last, key) for key in ("project", "entity", "group", "host")},
        "started": last.started,
        "sessions": len(sessions),
        "exit_code": last.exit_code,
        "epochs": "counted" if numbers.counted else None,
        "config": dict(config),
        "summary": {key: value for key, value in flat(summary) if not key.startswith("_")},
    }
    return {key: value for key, value in found.items() if value not in (None, "", {})}


def _entries(origin: Origin, numbers: _Numbers, summary: Mapping[str, Any]) -> Iterator[Entry]:
    yield Entry("event", 0, 0, {"name": "imported", "kind": origin.kind, "file": origin.file, "sha256": origin.sha256})
    yield from numbers.entries()
    best = summary.get("best_epoch")
    if isinstance(best, int) and any(epoch == best for epoch, _, _ in numbers.evaluations):
        yield Entry("event", best, 0, {"name": "selected", "epoch": best, "value": None})


def _outcome(last: Session) -> Outcome:
    if last.exit_code == 0:
        return Outcome(State.COMPLETE)
    if last.exit_code is None:
        return Outcome(State.PAUSED, Reason.KILLED, "wandb's records end without saying how the run ended")
    return Outcome(State.FAILED, Reason.CRASH, f"it ended with exit code {last.exit_code}, by wandb's records")


def _kept(last: Session) -> Notes:
    """Its notes and tags, in the form that they have here."""
    text = plain(last.notes, "\n\t").strip()[:MAX_TEXT]
    tags = (" ".join(plain(tag).replace(",", " ").split())[:MAX_TAG].strip() for tag in last.tags)
    said = (Note(1, last.started, text),) if text else ()
    return Notes(said, tuple(dict.fromkeys(filter(None, tags))), 1 + len(said)) if said or last.tags else notes.NONE
