"""Where a running run stands, for whoever watches: a small file that may lag and may be absent."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ablate.errors import RecordError
from ablate.runs import disk, files

_INTERVAL = 0.3
"""Seconds between two writes."""


@dataclass(frozen=True)
class Progress:
    """`eta` is in seconds, as of `wall`; `doing` is 'train', 'evaluate val', …"""

    doing: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    images_per_second: float | None
    eta: float | None
    wall: float


@dataclass
class Pace:
    """What the ETA is computed from, in this attempt alone."""

    step_seconds: float = 0.0
    steps: int = 0
    evaluation_seconds: float | None = None

    def eta(self, steps_left: int, evaluations_left: int) -> float | None:
        if not self.steps:
            return None
        return steps_left * self.step_seconds / self.steps + evaluations_left * (self.evaluation_seconds or 0.0)


def read_progress(path: Path) -> Progress | None:
    try:
        return Progress(**files.read_json(path))
    except (OSError, RecordError, TypeError):
        return None


class ProgressFile:
    """Writes at most every 0.3 s, and never fails a run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def show(self, progress: Progress, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _INTERVAL
        try:
            files.write_lagging(self._path, json.dumps(asdict(progress)).encode())
        except OSError:
            self._next = time.monotonic() + 10  # a full disk stops the run where it matters, not here

    def remove(self) -> None:
        if self._path.exists():
            disk.unlink(self._path)
