"""Which runs were trained and scored on the same data: numbers on different data are never shown side by side in
silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

_SHOWN = 8
"""Hexadecimal digits of a fingerprint that tables show."""

_NAMED = 3

NOT_RECORDED = "not recorded"


class _Run(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def data(self) -> str | None: ...

    @property
    def scores(self) -> Sequence[object]: ...


def short_prints(prints: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A few digits for each run's (fingerprint, hash of the contents): equal for the same data, and for no other.

    The digits of the contents are shown only where files differ that have the same names and sizes.
    """
    contents: dict[str, set[str]] = {}
    for fingerprint, content in prints.values():
        contents.setdefault(fingerprint, set()).add(content)
    return {
        run_id: fingerprint[:_SHOWN] + (f"+{content[:_SHOWN]}" if len(contents[fingerprint]) > 1 else "")
        for run_id, (fingerprint, content) in prints.items()
    }


def differing_data(runs: Sequence[_Run]) -> list[str]:
    """One sentence if the runs that have scores are not all of the same data; none for a task that records none."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        if run.scores:
            groups.setdefault(run.data or NOT_RECORDED, []).append(run.name)
    if len(groups) < 2:
        return []
    who = "; ".join(f"data {shown}: {_some(names)}" for shown, names in groups.items())
    return [
        f"these runs are not of the same data, by the fingerprints of their files and lists ({who}); "
        "a difference between rows of different data says nothing of their settings"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
