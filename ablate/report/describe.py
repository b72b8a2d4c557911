"""Details of runs: what they are called, where their weights are, and how to make them again."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ablate.report.details import Details
from ablate.report.labels import LANGUAGES
from ablate.report.summary import RunSummary, StudySummary
from ablate.results.open import Results
from ablate.results.records import Origin, RunRow, StudyRow

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_NOT_TEXT = ("null", "true", "false")
_ONE_RUN = ("eval", "extend")
"""Commands that make one run, whatever a study's file says."""


Title = tuple[str, tuple[str, ...]]
"""What a task calls a run, and the settings (dotted keys) that these words state."""


class Titles(Protocol):
    """Asks a task, by name, what it calls a run with this stored configuration, in which settings may be missing.

    None if the task has no words for it: then titles are made of the settings in which runs differ.
    """

    def __call__(self, task: str | None, configuration: Mapping[str, Any], lang: str) -> Title | None: ...


def describe(results: Results, summaries: Sequence[StudySummary], titles: Titles) -> list[StudySummary]:
    """The summaries with the `details` of every run."""
    studies = {row.study: row for row in results.studies()}
    rows = {(row.study, row.run_id): row for row in results.runs()}
    effort = results.effort([run.run_id for summary in summaries for run in summary.runs])
    found = []
    for summary in summaries:
        study = studies.get(summary.study or "")
        runs = []
        for run in summary.runs:
            row = rows[summary.study, run.run_id]
            images, seconds = effort.get(run.run_id, (None, None))
            details = _logged(row.external) if row.external else _measured(run, row, study, images, seconds)
            runs.append(replace(run, details=_titled(details, row, titles)))
        found.append(replace(summary, runs=tuple(runs)))
    return found


def _titled(details: Details, row: RunRow, titles: Titles) -> Details:
    if details.title is not None:
        return details
    named = {lang: title for lang in LANGUAGES if (title := titles(row.task, row.configuration, lang))}
    states = next((states for _, states in named.values()), ())
    return replace(details, titles={lang: text for lang, (text, _) in named.items()}, titled=tuple(states))


def _logged(origin: Origin) -> Details:
    facts = origin.facts
    beside = facts.get("beside") or {}
    logged = origin.kind == "progress log"
    return Details(
        number=origin.row if logged else None,
        title=origin.title if logged else None,
        epochs=None,
        images=facts.get("images_per_epoch"),
        hours=facts.get("hours"),
        weights=facts.get("weights"),
        weights_remark=beside.get("weights"),
        wandb=facts.get("wandb") if logged else origin.file,
        notes=tuple(beside.get("notes") or ()),
        prose=tuple(beside.get("prose") or ()),
        commands=tuple(facts.get("commands") or ()),
        written=facts.get("written") or {},
    )


def _measured(
    run: RunSummary, row: RunRow, study: StudyRow | None, images: int | None, seconds: float | None
) -> Details:
    mirrored = study is not None and study.wandb.get("mode") in ("online", "offline")
    project = (study.wandb.get("project") or study.study) if study else None
    return Details(
        epochs=run.last_epoch or None,
        images=images,
        hours=None if seconds is None else seconds / 3600,
        weights=_near(row.directory) if row.directory is not None and run.selected_epoch else None,
        wandb=f"{project}/{run.name}" if mirrored else None,
        notes=(*(remark.text for remark in run.remarks), *run.notes),
        commands=_commands(run, row, study),
    )


def _near(path: Path) -> str:
    """Relative to here if it lies below, as a person would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else os.path.normpath(path)


def _commands(run: RunSummary, row: RunRow, study: StudyRow | None) -> tuple[str, ...]:
    """The study's own command for this cell; what was typed, for a run that no study's file declares."""
    typed = shlex.split(row.command) if row.command else []
    if study is None or set(typed[1:2]) & set(_ONE_RUN) or not set(run.settings) <= set(study.axes):
        return (row.command,) if row.command else ()
    words = ["ablate", "run", _near(Path(study.file)) if Path(study.file).is_absolute() else study.file]
    for override in study.overrides:
        words += ["--set", override]
    seeds = {"seed": run.seed} if run.seed else {}
    for key, value in {**run.settings, **seeds}.items():
        words += ["--only", f"{key}={_typed(value)}"]
    return (shlex.join(words),)


def _typed(value: Any) -> str:
    """A value as `--only` takes it: YAML, in which 1e-5 is a number and quoted text is text."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value, ensure_ascii=False)
