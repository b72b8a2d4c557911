"""Rows that were imported: what their source says of them, and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ablate.results.records import CellRow, Origin, RunRow

if TYPE_CHECKING:
    from ablate.report.summary import RunSummary

MARK = "external"
"""What tables put behind the name of such a row."""


def is_logged(run: RunSummary) -> bool:
    """Whether it is a row of somebody's log, which reports one checkpoint of each run."""
    return run.external is not None and run.external.kind == "progress log"


def as_stated(run: RunSummary, origin: Origin) -> RunSummary:
    """A row of a log reports one checkpoint, and often does not say which: then its epoch is None, not the last."""
    if origin.kind != "progress log":
        return run
    epoch = origin.facts.get("checkpoint")
    if run.planned_epochs == 0:
        epoch = 0
    scores = tuple(replace(score, epoch=epoch) for score in run.scores if score.checkpoint == "selected")
    return replace(run, scores=scores, selected_epoch=epoch, last_epoch=run.planned_epochs)


def settings_beside(cells: Mapping[str, CellRow], runs: Sequence[RunRow], axes: Iterable[str]) -> dict[str, Any]:
    """Run id -> settings that measured runs have from their configuration: axes that only imported rows brought."""
    external = {run.run_id for run in runs if run.external is not None}
    measured = [run for run in runs if run.external is None]
    if not external:
        return {}
    own = {key for run in measured if run.run_id in cells for key in cells[run.run_id].settings}
    brought = [axis for axis in axes if axis not in own]
    return {run.run_id: _settings(run.configuration, brought) for run in measured if run.configuration}


def _settings(configuration: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    found = {}
    for key in keys:
        value: Any = configuration
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[key] = value
    return found


def sentences(origin: Origin) -> tuple[str, ...]:
    """Where the numbers are from, and what is stated of the run beside its settings."""
    facts = origin.facts
    rough = facts.get("about") or ()
    parts = [f"“{origin.title}”"]
    if (images := facts.get("images_per_epoch")) is not None:
        parts.append(f"{'about ' * ('images' in rough)}{images:,} images per epoch")
    if (hours := facts.get("hours")) is not None:
        parts.append(f"{'about ' * ('hours' in rough)}{hours:g} h")
    parts += [f"{name} {facts[key]}" for name, key in (("weights", "weights"), ("wandb", "wandb")) if facts.get(key)]
    return (f"{MARK}, not measured here ({origin.label}, SHA-256 {origin.sha256[:8]}): {', '.join(parts)}",)


def not_stated(unknown: Sequence[str], stated: Iterable[str]) -> str:
    """'seed, train (but epochs, lr), …': groups with what is known of them, instead of every setting by itself."""
    known: dict[str, list[str]] = {}
    for key in stated:
        group, _, rest = key.partition(".")
        known.setdefault(group, []).append(rest)
    groups = dict.fromkeys(key.partition(".")[0] for key in unknown)
    return ", ".join(
        f"{group} (but {', '.join(sorted(known[group]))})" if known.get(group) else group for group in groups
    )
