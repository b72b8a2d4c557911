"""From what the database holds of a run to what the comparability check looks at."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablate.report.comparability import Discrepancy, Estimand, Recorded, between
from ablate.report.ignored import IGNORED, without
from ablate.results.recorded import RunFacts
from ablate.results.records import RunRow
from ablate.study.remarks import UNKNOWN, is_unknown

CODE = "code"
_SHOWN = 10


@dataclass(frozen=True)
class Known:
    """What a run was trained as and on. `protocol` is that of its numbers, None if it has none."""

    run: RunRow
    facts: RunFacts
    data: tuple[str, str] | None
    protocol: Mapping[str, Any] | None


def recorded_of(runs: Sequence[Known], ignored: Collection[str] = tuple(IGNORED)) -> dict[str, Recorded]:
    """What is compared, by run id. An aspect that no run has recorded is left out, as one that the task lacks.

    Of imported runs all that their source does not say is unknown.
    """
    aspects = {one.run.run_id: _aspects(one) for one in runs}
    known = list(dict.fromkeys(key for found in aspects.values() for key in found))
    leaves = dict.fromkeys(leaf for one in runs for leaf in _leaves(one.run.configuration))
    leaves |= dict.fromkeys(key for one in runs if one.run.external is not None for key in one.run.external.unknown)
    found = {}
    for one in runs:
        external = one.run.external
        unknown = external.unknown if external is not None else ()
        settings = without(one.run.configuration, ignored)
        if external is not None:
            settings = without(_completed(one.run.configuration, unknown, leaves), ignored)
        complete = {key: aspects[one.run.run_id].get(key, UNKNOWN) for key in known}
        found[one.run.run_id] = Recorded(one.run.name, settings, complete)
    return found


def _aspects(one: Known) -> dict[str, Any]:
    """Only what was recorded."""
    facts = one.facts
    if one.run.external is not None:
        stated = dict(one.protocol or {})
        always = (CODE, "data files", "digests", "pretrained %", "memory ladder", "rollbacks", "shared modules")
        return {"protocol": stated or UNKNOWN, **dict.fromkeys(always, UNKNOWN)}
    found: dict[str, Any] = {"digests": dict(facts.digests)}
    if one.protocol is not None:
        found["protocol"] = dict(one.protocol)
    if one.data is not None:
        found["data files"] = {"fingerprint": one.data[0][:_SHOWN], "contents": one.data[1][:_SHOWN]}
    if facts.parts is not None:
        found["pretrained %"] = "no weights" if facts.pretrained is None else round(100 * facts.pretrained, 2)
    if facts.shared is not None:
        found["shared modules"] = "; ".join(" = ".join(names) for names in facts.shared) or "none"
    if facts.devices:
        found["device"] = ", then ".join(facts.devices)
    found["memory ladder"] = "; ".join(facts.ladder) or "none"
    found["rollbacks"] = f"{facts.rollbacks[-1]:g} times the learning rate" if facts.rollbacks else "none"
    if facts.code is not None:
        found[CODE] = dict(facts.code)
    return found


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _completed(stated: Mapping[str, Any], unknown: tuple[str, ...], leaves: Collection[str]) -> dict[str, Any]:
    """What a source states, with what it does not state as `UNKNOWN`, and None for what does not apply."""
    found = json.loads(json.dumps(stated))
    groups = {key for key in leaves if any(leaf.startswith(f"{key}.") for leaf in leaves)}
    for key in (key for key in leaves if key not in groups):
        _put(found, key, UNKNOWN if is_unknown(key, unknown) else None)
    return dict(found)


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Sets a value where nothing is yet."""
    *groups, last = key.split(".")
    for group in groups:
        inner = settings.setdefault(group, {})
        if not isinstance(inner, dict):
            return
        settings = inner
    settings.setdefault(last, value)


def distinct(records: Sequence[Recorded]) -> list[Recorded]:
    """Those that differ in more than the seed: the rest need not be compared again."""
    found: dict[str, Recorded] = {}
    for one in records:
        settings = {key: value for key, value in one.settings.items() if key != "seed"}
        found.setdefault(json.dumps([settings, one.aspects, one.unknown], sort_keys=True, default=str), one)
    return list(found.values())


def differing(
    first: Sequence[Recorded], second: Sequence[Recorded], factor: Collection[str], estimand: Estimand
) -> tuple[Discrepancy, ...]:
    """What two arms differ in beside the factor, and what the runs of each differ in among themselves.

    Code is compared part by part, of the parts that both arms use: that a factor is computed by other code is no
    discrepancy.
    """
    first, second = distinct(first), distinct(second)
    if not first or not second:
        return ()
    common = set.intersection(*(_parts(one) for one in (*first, *second)))
    apart = between([_only(one, common) for one in first], [_only(one, common) for one in second], factor, estimand)
    inside = (*between(first, (), ()), *between(second, (), ()))
    return tuple({one.key: one for one in (*inside, *apart)}.values())


def _parts(one: Recorded) -> set[str]:
    code = one.aspects.get(CODE)
    return set(code) if isinstance(code, Mapping) else set()


def _only(one: Recorded, parts: Collection[str]) -> Recorded:
    code = one.aspects.get(CODE)
    if not isinstance(code, Mapping):
        return one
    return replace(one, aspects={**one.aspects, CODE: {part: code[part] for part in code if part in parts}})
