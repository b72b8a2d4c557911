"""One run of each architecture goes ahead; the others follow once it has taken a few steps.

A model that does not fit the device or breaks in its first step costs one failed run then, not a whole study.
"""

from __future__ import annotations

from enum import Enum


class _Stage(Enum):
    UNTRIED = 0
    AHEAD = 1
    PROVEN = 2
    CONDEMNED = 3


class Canaries:
    """Where each architecture stands. The empty architecture is never held back."""

    def __init__(self, proven: frozenset[str]) -> None:
        self._stages = dict.fromkeys(proven, _Stage.PROVEN)
        self._ahead: dict[str, str] = {}

    def may_start(self, architecture: str, run: str) -> bool:
        """Whether a run may start: the first of its architecture may, and all once that one has shown that it works."""
        stage = self._stage(architecture)
        return stage in (_Stage.UNTRIED, _Stage.PROVEN) or self._ahead.get(architecture) == run

    def started(self, architecture: str, run: str) -> None:
        if self._stage(architecture) is _Stage.UNTRIED:
            self._stages[architecture] = _Stage.AHEAD
            self._ahead[architecture] = run

    def is_ahead(self, architecture: str, run: str) -> bool:
        """Whether this run is the one that the others wait for."""
        return self._stage(architecture) is _Stage.AHEAD and self._ahead[architecture] == run

    def proven(self, architecture: str) -> None:
        self._stages[architecture] = _Stage.PROVEN

    def failed(self, architecture: str, *, its_fault: bool) -> None:
        """The run that went ahead has failed for good; if that was its own fault alone, another one goes ahead."""
        self._stages[architecture] = _Stage.CONDEMNED if its_fault else _Stage.UNTRIED
        self._ahead.pop(architecture)

    def _stage(self, architecture: str) -> _Stage:
        return self._stages.get(architecture, _Stage.UNTRIED) if architecture else _Stage.PROVEN
