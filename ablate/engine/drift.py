"""Whether an attempt goes on under the conditions in which its checkpoint was made.

A resumed run is promised to be bit-identical on the same device kind, thread count, processor, versions, code and
data. A change of any is recorded and said; it never stops a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.engine import brought
from ablate.engine.loop import record_key
from ablate.runs import journal
from ablate.runs.paths import RunPaths

_NO_NUMBERS = ("duckdb",)
"""Packages that decide no number of a run."""


@dataclass
class History:
    """What the journal says of earlier attempts."""

    results: dict[tuple[Any, ...], Mapping[str, Any]] = field(default_factory=dict)
    """Epochs and evaluations by `record_key`, as the newest attempt computed them."""
    attempts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """The attempt records by number."""
    data: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """What each attempt found when it checked its data."""
    saved_by: int = 0
    """The attempt that wrote the checkpoint; 0 if there is none."""
    completed: int = 0
    """The attempt that wrote down the end of the run as the journal's last word; 0 if none did."""

    @property
    def threads(self) -> int | None:
        """The thread count of the first attempt: another one changes the weights."""
        return int(next(iter(self.attempts.values()))["threads"]) if self.attempts else None

    def changes(self, attempt: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """What is not as it was when the checkpoint was saved that an attempt resumes from."""
        before = self.attempts.get(self.saved_by)
        if before is None:
            return []
        found = list(differences(before, attempt))
        earlier = self.data.get(self.saved_by)
        if earlier is not None and _text(earlier) != _text(data):
            found.append(f"data: {_first_difference(earlier, data)}")
        return found


def history(paths: RunPaths, saved_seq: int | None) -> History:
    """Reads the journal; `saved_seq` is the record that the checkpoint to resume from vouches for."""
    found = History()
    for line in journal.read(paths.journal):
        record = line.record
        found.completed = record.attempt if record.body.get("name") == "completed" else 0
        if record.type == "attempt":
            found.attempts[record.attempt] = record.body
        elif record.type in ("epoch", "evaluation"):
            found.results[record_key(record.type, record.epoch, record.body)] = record.body
        elif record.body.get("name") == "checked":
            found.data[record.attempt] = record.body.get("facts") or {}
        if record.seq == saved_seq:
            found.saved_by = record.attempt
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """'torch 2.14.0 → 2.14.1', for everything of two attempt records on which numbers may depend."""
    old, new = _conditions(before), _conditions(now)
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, 'none')} → {new.get(key, 'none')}"


def _conditions(attempt: Mapping[str, Any]) -> dict[str, str]:
    git = attempt.get("git") or {}
    found = {
        "device": str(attempt.get("device", "")).partition(":")[0],
        "threads": str(attempt.get("threads", "")),
        "processor": str(attempt.get("processor") or "unknown"),
        **{f"{name}": str(text) for name, text in (attempt.get("versions") or {}).items() if name not in _NO_NUMBERS},
    }
    for plugin in brought.of_attempt(attempt):
        found[f"{plugin.kind} {plugin.name}"] = " ".join(
            part for part in (plugin.package, plugin.version, (plugin.source or "")[:10]) if part
        )
    if git.get("commit"):
        found["commit"] = str(git["commit"])[:10] + (" with edits" if git.get("dirty") else "")
    return found


def _first_difference(before: Any, now: Any, place: str = "") -> str:
    """'splits.train.images 96 → 95': the first place at which two JSON values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in (*before, *(key for key in now if key not in before)):
            if _text(before.get(key)) != _text(now.get(key)):
                return _first_difference(before.get(key), now.get(key), f"{place}.{key}" if place else str(key))
    return f"{place} {_short(before)} → {_short(now)}"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: Any, most: int = 60) -> str:
    text = "none" if value is None else _text(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def event(since: int, changes: list[str]) -> dict[str, Any]:
    """The body of the journal's event, whose `text` is what reports and `show` print."""
    text = f"{', '.join(changes)} since attempt {since}; bit-identity is not promised across this"
    return {"name": "changed", "since": since, "changes": changes, "text": text}


def newest_change(paths: RunPaths) -> str | None:
    """What changed for the newest attempt of a run, as its event says; None if nothing did."""
    newest, text = 0, None
    for line in journal.read(paths.journal):
        record = line.record
        if record.attempt > newest:
            newest, text = record.attempt, None
        if record.type == "event" and record.body.get("name") == "changed":
            text = str(record.body.get("text"))
    return text
