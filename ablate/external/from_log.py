"""A progress log as runs: what `log` read, under the names that settings and protocols have here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ablate.errors import DataError
from ablate.external.log import Log, Logged, parse, plain
from ablate.external.store import Found, unstated
from ablate.runs.external import Entry
from ablate.runs.origin import Origin
from ablate.runs.states import Outcome, State
from ablate.task import Task

MAX_BYTES = 16 * 2**20
_SHOWN = 20


class Words(Protocol):
    """What the words of a log mean to a task; `ablate.depth.logged` is one."""

    def settings_of_title(self, title: str, name: str | None, epochs: int | None) -> dict[str, Any]: ...

    def excluded(self, stated: Mapping[str, Any]) -> frozenset[str]: ...

    def short_name(self, settings: Mapping[str, Any]) -> str | None: ...

    def checkpoint_epoch(self, weights: str | None, epochs: int | None) -> int | None: ...

    def protocol_of_commands(self, commands: Sequence[str]) -> dict[str, str]: ...


def read_log(path: Path, task: Task, words: Words) -> tuple[list[Found], list[str]]:
    """The runs of a log, and remarks on what was left out.

    Raises DataError, naming the lines, if anything in it cannot be read as it is meant, or if it holds no run.
    """
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    log = parse(text, tuple(task.metrics))
    if log.problems:
        raise DataError(f"{path}: nothing was imported\n  {_some(log.problems)}")
    if not log.rows:
        raise DataError(f"{path}: holds no run; each needs a heading such as `## 1. Title` and a table of its metrics")
    digest = hashlib.sha256(content).hexdigest()
    name = plain(path.name)
    found = {_key(item): item for item in (_found(row, name, digest, task, words) for row in log.rows)}
    return list(found.values()), _remarks(log, len(log.rows) - len(found))


def _remarks(log: Log, twins: int) -> list[str]:
    return [*log.remarks, *([f"{twins} runs stand there twice, word for word"] if twins else [])]


def _key(item: Found) -> str:
    return repr(item.content)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder; `ablate import wandb {path}` reads wandb's offline files") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: more than {MAX_BYTES // 2**20} MiB; that is no log that a person kept")
    return content


def _some(problems: Sequence[str]) -> str:
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "\n  ".join([*problems[:_SHOWN], *more])


def _found(row: Logged, file: str, digest: str, task: Task, words: Words) -> Found:
    stated = {
        key: value
        for key, value in words.settings_of_title(row.title, row.wandb, row.phrases.epochs).items()
        if value is not None
    }
    origin = Origin(
        kind="progress log",
        file=file,
        sha256=digest,
        row=row.number,
        title=row.title,
        unknown=unstated(task, stated, words.excluded(stated)),
        facts=_facts(row, words),
    )
    return Found(
        origin=origin,
        slug=f"log-{row.number}-{words.short_name(stated) or row.title}",
        stated=stated,
        entries=tuple(_entries(row, origin, words)),
        outcome=Outcome(State.COMPLETE),
        content=_content_of(row),
        command=f"ablate import {file}",
        said=row.notes,
    )


def _content_of(row: Logged) -> Any:
    tables = {resolution: dict(numbers.texts) for resolution, numbers in row.outputs.items()}
    return [row.number, row.title, row.weights, row.wandb, list(row.notes), list(row.commands), tables]


def _facts(row: Logged, words: Words) -> dict[str, Any]:
    """All that the log states beside settings and numbers; what it does not state is left out."""
    phrases = row.phrases
    found = {
        "weights": row.weights,
        "wandb": row.wandb,
        "beside": dict(row.beside) or None,
        "commands": list(row.commands) or None,
        "checkpoint": words.checkpoint_epoch(row.weights, phrases.epochs),
        "images_per_epoch": phrases.images,
        "hours": phrases.hours,
        "about": list(phrases.about) or None,
        "written": {resolution: dict(numbers.texts) for resolution, numbers in row.outputs.items()},
    }
    return {key: value for key, value in found.items() if value is not None}


def _entries(row: Logged, origin: Origin, words: Words) -> list[Entry]:
    """The journal: where it came from, an evaluation per table, and that this checkpoint is the one to report."""
    epoch = origin.facts.get("checkpoint") or row.phrases.epochs or 0
    source = {"kind": origin.kind, "file": origin.file, "sha256": origin.sha256, "row": origin.row}
    entries = [Entry("event", 0, 0, {"name": "imported", **source})]
    protocol = words.protocol_of_commands(row.commands)
    for resolution, numbers in row.outputs.items():
        body: dict[str, Any] = {"split": "test", "resolution": resolution, "metrics": dict(numbers.values), "loss": None, "images": None,
                "skipped": None, "protocol": protocol, "scores": []}  # fmt: skip
        entries.append(Entry("evaluation", epoch, 0, body))
    if row.outputs:
        entries.append(Entry("event", epoch, 0, {"name": "selected", "epoch": epoch, "value": None}))
    return entries
