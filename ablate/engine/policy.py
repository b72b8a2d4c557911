"""What the scheduler does about trouble: which failures are tried again and when, and when it is time to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ablate.runs.states import Reason


@dataclass(frozen=True)
class Retry:
    """Seconds before each further attempt; there are as many attempts as pauses."""

    pauses: tuple[float, ...] = ()
    alone: bool = False
    """Whether to wait until every other run has ended, and to have the device to itself."""


RETRIES: Mapping[Reason, Retry] = {
    Reason.KILLED: Retry((5.0, 30.0, 120.0)),
    Reason.OOM: Retry((5.0,), alone=True),
    Reason.CRASH: Retry((1.0,)),
}
"""By cause. Of the others, a further attempt would end the same way: the data, the disk or the settings must change."""


def limited(most: int | None) -> Mapping[Reason, Retry]:
    """The table with at most so many retries for any cause."""
    return {reason: Retry(retry.pauses[:most], retry.alone) for reason, retry in RETRIES.items()}


ARCHITECTURE_FAULTS = frozenset({Reason.CRASH, Reason.OOM, Reason.KILLED, Reason.DATA})
"""Failures of a first run that the other runs with the same model would likely share."""

_NO_ROW = frozenset({Reason.DIVERGED, Reason.SIGNAL})
"""Of these, several in a row say nothing about the machine or the code."""


@dataclass(frozen=True)
class Rules:
    """How an invocation deals with failures, time and silence. Times are in seconds."""

    fail_fast: bool = False
    """Save and stop everything as soon as one run has failed for good."""
    keep_going: bool = False
    """Try every run, whatever happened to the others."""
    max_seconds: float | None = None
    grace: float = 60.0
    """From a signal (other than Ctrl-C) to SIGKILL."""
    stall: float | None = 3600.0
    canary_steps: int = 3
    breaker: int = 3
    retries: Mapping[Reason, Retry] = field(default_factory=lambda: RETRIES)


@dataclass
class Breaker:
    """Notices runs that fail one after another for one cause."""

    limit: int
    reason: Reason | None = None
    runs: set[str] = field(default_factory=set)

    def ended(self, run: str, reason: Reason | None) -> bool:
        """After each attempt; `reason` is why it failed, if it did. Whether that was one too many."""
        if reason in _NO_ROW:
            return False
        if reason is None:
            self.runs.clear()
        elif reason is not self.reason:
            self.runs = {run}
        else:
            self.runs.add(run)
        self.reason = reason
        return len(self.runs) >= self.limit
