"""Whether a difference between two runs can be put down to the setting under study: everything else that differs.

A run is compared by all that was recorded of it: its resolved configuration, and what else moves its numbers (digests
of lists and weights, protocol, pretrained share, fingerprints of data and code, memory ladder). What is not known
differs from everything, and from another unknown.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.study.estimand import Estimand as Estimand
from ablate.study.estimand import Matched as Matched
from ablate.study.estimand import Tuned as Tuned
from ablate.study.estimand import read_estimand as read_estimand
from ablate.study.remarks import UNKNOWN, is_unknown

MATCHED = Matched()
_SCALARS = (str, int, float, type(None))
REPLICATES = ("seed",)
"""What repetitions of one arm differ in."""


@dataclass(frozen=True)
class Recorded:
    """What is known of a run. `settings` and `aspects` may be nested; `unknown` are dotted keys of both.

    `aspects` is everything but the configuration. One that the task does not have is left out; one that could not be
    found out is `UNKNOWN`.
    """

    name: str
    settings: Mapping[str, Any]
    aspects: Mapping[str, Any]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Discrepancy:
    """One thing in which two runs differ, or may differ, with the value of each; `UNKNOWN` where it is not known."""

    key: str
    first: Any
    second: Any

    @property
    def is_known(self) -> bool:
        return UNKNOWN not in (_text(self.first), _text(self.second))

    @property
    def text(self) -> str:
        """'train.lr (0.0001 against 1e-05)'."""
        if self.first == self.second == UNKNOWN:
            return f"{self.key} (unknown in both)"
        return f"{self.key} ({_shown(self.first)} against {_shown(self.second)})"


def discrepancies(
    first: Recorded,
    second: Recorded,
    factor: Collection[str],
    estimand: Estimand = MATCHED,
    *,
    ignored: Collection[str] = (),
) -> tuple[Discrepancy, ...]:
    """Everything in which two runs differ besides the factor under study, in the order recorded.

    factor: dotted keys of settings, or of groups of them; `Tuned.over` may differ too. It excuses settings only: a
    share of pretrained weights that differs because the attention does is named, and so is a factor whose value is
    not known. ignored: settings that cannot change
    a result, such as paths and cadences. Seeds do not count.
    """
    excused = {*factor, *(estimand.over if isinstance(estimand, Tuned) else ())}
    skipped = {*ignored, *REPLICATES}
    found = _compare(first.settings, second.settings, "", first.unknown, second.unknown)
    kept = [one for one in found if not _under(one.key, skipped) and not (one.is_known and _within(one.key, excused))]
    kept += _compare(first.aspects, second.aspects, "", first.unknown, second.unknown)
    return tuple(kept)


def between(
    first: Sequence[Recorded],
    second: Sequence[Recorded],
    factor: Collection[str],
    estimand: Estimand = MATCHED,
    *,
    ignored: Collection[str] = (),
) -> tuple[Discrepancy, ...]:
    """The same of two groups of runs, each the seeds of one arm: whatever differs in any pair, once per key.

    Runs of one group that differ from each other in more than the seed are named too.
    """
    found: dict[str, Discrepancy] = {}
    inside = [(group[0], other, ()) for group in (first, second) for other in group[1:]]
    for one, other, excused in [*((a, b, factor) for a in first for b in second), *inside]:
        for each in discrepancies(one, other, excused, estimand, ignored=ignored):
            found.setdefault(each.key, each)
    return tuple(found.values())


def _compare(
    first: Any, second: Any, key: str, unknown: tuple[str, ...], other: tuple[str, ...]
) -> Iterator[Discrepancy]:
    first = UNKNOWN if is_unknown(key, unknown) else first
    second = UNKNOWN if is_unknown(key, other) else second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in (*first, *(name for name in second if name not in first)):
            inner = f"{key}.{name}" if key else str(name)
            yield from _compare(first.get(name, UNKNOWN), second.get(name, UNKNOWN), inner, unknown, other)
        return
    if type(first) is type(second) and isinstance(first, _SCALARS) and first == second and first != UNKNOWN:
        return  # nearly all: a thousand runs have a hundred settings each
    one = Discrepancy(key, first, second)
    if not one.is_known or _text(first) != _text(second):
        yield one


def _within(key: str, names: Collection[str]) -> bool:
    """Whether `key` is one of the names, or lies in or holds one: `data.subset` is None where it has no `n`."""
    return any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in names)


def _under(key: str, names: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _text(value: Any) -> str:
    """Equal for equal values; 1 and 1.0 are equal, 1 and true are not."""
    return UNKNOWN if value == UNKNOWN else json.dumps(_plain(value), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(_plain(value), default=str)
    return text if len(text) <= 60 else text[:59] + "…"
