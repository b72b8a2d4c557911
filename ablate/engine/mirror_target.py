"""Where a run is mirrored to, by its study and by wandb's own environment variables, and what has arrived there.

`wandb.json` in the run's directory holds, for each place, how much of the journal arrived, and the last failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ablate.engine.panels import contents
from ablate.errors import RecordError
from ablate.runs import directory, files, lease, notes, states
from ablate.runs.paths import RunPaths

FORMAT = 2
"""Of `wandb.json`, and part of every digest: raised when the same records would be sent as something else."""
_MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
"""What WANDB_MODE may be."""
DEFAULT_EVERY = 10
OFFLINE = "offline"
_SERVER = "https://api.wandb.ai"


@dataclass(frozen=True)
class Target:
    """Where a run goes. Without `entity` it is the account's own."""

    mode: str
    project: str
    entity: str | None = None
    group: str | None = None
    every: int = DEFAULT_EVERY
    """Steps from one row of a single step to the next."""

    @property
    def place(self) -> str:
        """What the run's records of arrival are kept under."""
        if self.mode != "online":
            return OFFLINE
        server = os.environ.get("WANDB_BASE_URL", _SERVER).rstrip("/")
        return f"{server}/{self.entity or ''}/{self.project}"


def mode_of(settings: Mapping[str, Any]) -> str:
    """A study says whether there is a mirror at all; if so, WANDB_MODE says which, as wandb's users expect."""
    declared = str(settings.get("mode") or "disabled")
    if declared == "disabled":
        return declared
    return _MODES.get(os.environ.get("WANDB_MODE", "").strip().lower(), declared)


def target_of(settings: Mapping[str, Any], mode: str | None = None) -> Target:
    """What the study says goes first, then WANDB_PROJECT and WANDB_ENTITY; the project is else called like the study."""
    group = settings.get("group")
    project = settings.get("project") or os.environ.get("WANDB_PROJECT") or group or "ablate"
    entity = settings.get("entity") or os.environ.get("WANDB_ENTITY") or None
    return Target(mode or mode_of(settings), project, entity, group, settings.get("log_every") or DEFAULT_EVERY)


@dataclass(frozen=True)
class Arrived:
    """What a place has: so many bytes of the journal, and the digest of all that was sent."""

    bytes: int
    digest: str
    wall: float
    url: str | None = None


@dataclass(frozen=True)
class Mirrored:
    """`wandb.json`."""

    places: Mapping[str, Arrived] = field(default_factory=dict)
    error: str | None = None
    """Why the last try failed; None if it did not."""


def read_mirrored(paths: RunPaths) -> Mirrored:
    """Nothing where the file is missing, damaged or of an earlier format: then all is sent again."""
    try:
        value = files.read_json(paths.mirror)
        if value.get("v") != FORMAT:
            return Mirrored()
        places = {str(place): Arrived(**arrived) for place, arrived in value["places"].items()}
        return Mirrored(places, value["error"])
    except (OSError, RecordError, KeyError, TypeError, AttributeError):
        return Mirrored()


def write_arrived(paths: RunPaths, place: str, arrived: Arrived) -> None:
    places = {**read_mirrored(paths).places, place: arrived}
    files.write_json(paths.mirror, {"v": FORMAT, **asdict(Mirrored(places))})


def write_failure(paths: RunPaths, text: str) -> None:
    """As far as the disk lets it: this is said on the screen as well."""
    with contextlib.suppress(OSError):
        found = asdict(Mirrored(read_mirrored(paths).places, text[:2000]))
        files.write_json(paths.mirror, {"v": FORMAT, **found})


def journal_size(paths: RunPaths) -> int:
    try:
        return paths.journal.stat().st_size
    except OSError:
        return 0


def digest_of(paths: RunPaths, target: Target, size: int | None = None) -> str:
    """Of everything that a place is sent: what has the same digest need not be sent again.

    The journal only grows, so `size`, of what was sent of it, stands for it. Raises RecordError.
    """
    outcome = states.read_outcome(paths)
    content = {
        "format": FORMAT,
        "identity": directory.read_identity(paths).hash,
        "config": directory.read_config(paths).config,
        "group": target.group,
        "every": target.every,
        "notes": asdict(notes.read_notes(paths)),
        "outcome": None if outcome is None else [outcome.state, outcome.reason, outcome.message],
        "journal": journal_size(paths) if size is None else size,
        "panels": contents(paths),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def arrival(paths: RunPaths, target: Target, size: int, url: str | None = None) -> Arrived:
    return Arrived(size, digest_of(paths, target, size), time.time(), url)


def lacking(paths: RunPaths) -> str | None:
    """What wandb does not have of a run that is meant to be mirrored; None if nothing, or if somebody is at it.

    A look at files' sizes, cheap enough for thousands of runs.
    """
    if not (paths.mirror_log.exists() or paths.mirror.exists()):
        return None
    if lease.is_held(paths.mirror_lock) or lease.is_held(paths.lease):
        return None
    found = read_mirrored(paths)
    if not paths.mirror_log.exists() and not found.error:  # trained without a mirror, and sent by hand
        return None
    sent = max((arrived.bytes for arrived in found.places.values()), default=0)
    if sent >= journal_size(paths) and not found.error:
        return None
    return (found.error or "it was cut off before all was sent").partition("\n")[0]


def folder_of(paths: RunPaths) -> Path:
    """Where wandb keeps its files of a run that trains: it makes a folder `wandb` there."""
    return paths.root
