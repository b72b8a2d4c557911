"""What was recorded of runs beside their settings, and their scores image by image: a few queries for a whole study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.results.queries import Queries

_IN = "s.run_id IN (SELECT unnest(?::VARCHAR[]))"


@dataclass
class RunFacts:
    """Of one run, since it was last begun from scratch. What was never recorded is empty, or None."""

    digests: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    """Kinds of devices (`cpu`, `cuda`), in the order of the attempts."""
    machines: tuple[str, ...] = ()
    """Where it trained, host and kind of device ('cpu of here'), in the order of the attempts."""
    parameters: int | None = None
    parts: Sequence[Mapping[str, Any]] | None = None
    code: Mapping[str, str] | None = None
    """Part -> hash of what it computes; several hashes, joined, if the code changed between attempts."""
    shared: Sequence[Sequence[str]] | None = None
    rollbacks: tuple[float, ...] = ()
    """Factors on the learning rate, one per rollback."""
    ladder: tuple[str, ...] = ()
    """What rungs of the memory ladder did."""
    images_per_second: float | None = None
    """The median over epochs."""
    peak_memory_mb: float | None = None

    @property
    def pretrained(self) -> float | None:
        """The share of all parameters that a file of weights gave; None without a file."""
        own = [part for part in self.parts or () if not part.get("shared")]
        total = sum(part["parameters"] for part in own)
        if not total or any(part.get("pretrained") is None for part in own):
            return None
        return float(sum(part["parameters"] * part["pretrained"] for part in own) / total)


def facts_of(results: Queries, run_ids: Sequence[str]) -> dict[str, RunFacts]:
    """By run id; every run asked for has an entry."""
    ids = list(run_ids)
    found = {run_id: RunFacts() for run_id in ids}
    for run_id, digests in results.ask(f"SELECT run_id, digests FROM base.shown_runs s WHERE {_IN}", [ids]):
        found[run_id].digests = json.loads(digests or "{}")
    begun = _take_attempts(results, ids, found)
    _take_events(results, ids, found, begun)
    speeds = results.ask(
        f"""SELECT s.run_id, median(e.images_per_second), max(e.peak_memory_mb)
        FROM base.epochs e JOIN base.shown s USING (source) WHERE {_IN} GROUP BY s.run_id""",
        [ids],
    )
    for run_id, speed, memory in speeds:
        found[run_id].images_per_second, found[run_id].peak_memory_mb = speed, memory
    return found


def _take_attempts(results: Queries, ids: list[str], found: Mapping[str, RunFacts]) -> dict[str, int]:
    """Devices and plug-ins; returns the attempt that began each run from scratch last."""
    rows = results.ask(
        f"""SELECT s.run_id, a.attempt, a.host, a.device, a.resumed_from, a.facts
        FROM base.attempts a JOIN base.shown s USING (source) WHERE {_IN} ORDER BY s.run_id, a.attempt, a.seq""",
        [ids],
    )
    begun: dict[str, int] = {}
    for run_id, attempt, host, device, resumed_from, facts in rows:
        one = found[run_id]
        if resumed_from in (None, "null"):
            begun[run_id], one.devices, one.machines, one.code = attempt, (), (), None
        kind = str(device or "").partition(":")[0]
        one.devices = tuple(dict.fromkeys((*one.devices, *([kind] if kind else []))))
        one.machines = tuple(dict.fromkeys((*one.machines, *([f"{kind} of {host}"] if kind and host else []))))
        read = json.loads(facts or "null") or {}
        one.parameters = read.get("parameters", one.parameters)
        _add_code(one, _plugins(read.get("plugins")))
    return begun


def _plugins(listed: Any) -> dict[str, str]:
    """What other packages brought, as code like ours: `plug-in attention mine` -> digest of its file, or its version."""
    found = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping):
            kind = str(one.get("group", "")).removeprefix("ablate.")
            known = one.get("source") or one.get("version")
            found[f"plug-in {kind} {one.get('name')}"] = str(known)[:10] if known else "not recorded"
    return found


def _take_events(results: Queries, ids: list[str], found: Mapping[str, RunFacts], begun: Mapping[str, int]) -> None:
    rows = results.ask(
        f"""SELECT s.run_id, e.attempt, e.name, CAST(e.body AS VARCHAR)
        FROM base.events e JOIN base.shown s USING (source)
        WHERE e.name IN ('opened', 'rollback', 'ladder') AND {_IN} ORDER BY s.run_id, e.attempt, e.seq""",
        [ids],
    )
    for run_id, attempt, name, text in rows:
        if attempt < begun.get(run_id, 0):
            continue
        one, body = found[run_id], json.loads(text)
        if name == "opened":
            _take_opened(one, body.get("facts") or {})
        elif name == "rollback":
            one.rollbacks = (*one.rollbacks, float(body.get("lr_factor") or 0.0))
        else:
            one.ladder = (*one.ladder, str(body.get("did")))


def _take_opened(one: RunFacts, facts: Mapping[str, Any]) -> None:
    one.parameters = facts.get("parameters", one.parameters)
    one.parts = facts.get("parts", one.parts)
    one.shared = facts.get("shared_modules", one.shared)
    _add_code(one, facts.get("code") or {})


def _add_code(one: RunFacts, code: Mapping[str, str]) -> None:
    if not code:
        return
    known = dict(one.code or {})
    for part, digest in code.items():
        seen = known.get(part, digest).split(", then ")
        known[part] = ", then ".join(seen if seen[-1] == digest else [*seen, digest])
    one.code = known


ImageScores = dict[str, tuple[list[str], dict[str, list[float | None]]]]
"""Run id -> names of images in their order, and for each metric a value per image."""


def image_scores(
    results: Queries, epochs: Iterable[tuple[str, int]], split: str, resolution: str, metrics: Sequence[str]
) -> ImageScores:
    """Per-image results of the given (run id, epoch), all with one query; runs that stored none are left out."""
    wanted = list(epochs)
    lists = ", ".join("list(i.metrics[?] ORDER BY i.image)" for _ in metrics)
    # the newest evaluation of that epoch, as in `base.shown_evaluations`, but filtered first
    rows = results.ask(
        f"""WITH wanted AS (SELECT unnest(?::VARCHAR[]) AS run_id, unnest(?::INTEGER[]) AS epoch),
        newest AS (
            SELECT s.run_id, e.source, e.seq FROM base.evaluations e JOIN base.shown s USING (source)
                JOIN wanted w ON w.run_id = s.run_id AND w.epoch = e.epoch
            WHERE e.split = ? AND e.resolution = ?
            QUALIFY row_number() OVER (PARTITION BY s.run_id ORDER BY e.attempt DESC, e.seq DESC) = 1)
        SELECT n.run_id, list(i.image ORDER BY i.image), {lists}
        FROM newest n JOIN base.images i ON i.source = n.source AND i.seq = n.seq GROUP BY n.run_id""",
        [[run_id for run_id, _ in wanted], [epoch for _, epoch in wanted], split, resolution, *metrics],
    )
    return {row[0]: (row[1], dict(zip(metrics, row[2:], strict=True))) for row in rows}
