"""What `ablate eval` does: settings for one run out of a checkpoint and options, the run itself, and its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ablate.cli.checkpoints import Source, find_source
from ablate.cli.console import emit, say
from ablate.cli.predicting import parse_resolution
from ablate.cli.training import COMPLETE, train
from ablate.depth.predict import check_fit, origin_of
from ablate.engine.evaluation import Asked, plan_evaluation
from ablate.engine.launch import StudyPlan, Where
from ablate.engine.plan import Action
from ablate.engine.tasks import find_task
from ablate.errors import UsageError
from ablate.report.summary import RunSummary, Score, summarise
from ablate.report.tables import show
from ablate.results.open import open_results
from ablate.study.parse import NAME
from ablate.study.settings import catalogue
from ablate.task import Metric, Task

_TRAINING = ("model.attention_init", "model.decoder_init", "data.subset", "data.holdout", "data.labels")
"""Settings of a run that say how it was trained, not what it is. Its weights hold all its tensors."""
_ARROWS = {"max": "↑", "min": "↓"}


@dataclass(frozen=True)
class Wanted:
    """The command line of `ablate eval`."""

    source: str
    data: Path | None
    split: Path | None
    dataset: str | None
    resolution: str | None
    mask: str | None
    align: str | None
    network: str | None
    relative: bool
    name: str | None
    study: str
    settings: tuple[str, ...]


def evaluate_one(wanted: Wanted, where: Where, db: Path, command: Sequence[str]) -> int:
    """Evaluates, and prints what came out. Returns the exit code of `ablate run`.

    Raises UsageError, DataError and their like, before anything is written.
    """
    if not re.fullmatch(NAME, wanted.study) or ".." in wanted.study:
        raise UsageError(f"--study {wanted.study}: use up to 64 letters, digits, spaces, `.`, `_` and `-`")
    source = find_source(wanted.source, where.runs)
    if source.note:
        say(f"warning: {source.note}")
    task = find_task("depth")
    plan = plan_evaluation(_asked(wanted, source, task), task, where.runs)
    (item,) = plan.chosen
    if item.action is Action.DONE:
        say(f"{item.identity.name}: evaluated already; `ablate rm {item.identity.run_id}` to do it again")
    code = train(plan, where, db, command)
    if code == COMPLETE:
        _print_results(plan, db, where.runs.root)
    return code


def _asked(wanted: Wanted, source: Source, task: Task) -> Asked:
    if source.identity is None and wanted.data is None:
        raise UsageError("--data ROOT is missing: the folder of the data set to evaluate on")
    origin = origin_of(source.weights, source.config, wanted.network, wanted.dataset)
    check_fit(origin)
    relative = wanted.relative or origin.relative
    model: dict[str, Any] = {"model.name": origin.model.name, "model.weights": str(source.weights)}
    if relative:
        model["model.output"] = "relative"
        if (wanted.align or _own(source).get("eval.align", "none")) == "none" and not _sets(wanted, "eval.align"):
            raise UsageError(
                f"{source.name} predicts inverse depth without a unit, which is never read as metres; "
                "--align scale_shift scores it as MiDaS is, by least squares in inverse depth"
            )
    base: dict[str, Any] = {}
    for key, value in _own(source).items():
        (model if key.startswith("model.") else base)[key] = value
    base |= _data(wanted, source) | _protocol(wanted)
    known = catalogue(task.Config).settings
    return Asked(
        wanted.study,
        {key: value for key, value in base.items() if key in known},
        {key: value for key, value in model.items() if key in known},
        {"model.weights": source.name},
        wanted.settings,
        wanted.name,
    )


def _sets(wanted: Wanted, key: str) -> bool:
    return any(text.partition("=")[0].strip() == key for text in wanted.settings)


def _own(source: Source) -> Mapping[str, Any]:
    """The settings of a run that an evaluation keeps: its network, data and protocol."""
    if source.identity is None:
        return {}
    return {
        key: value
        for key, value in source.identity.settings.items()
        if key.startswith(("model.", "data.", "eval.")) and not key.startswith(_TRAINING)
    }


def _data(wanted: Wanted, source: Source) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if source.config is not None:
        own = source.config.get("data", {})
        data = {f"data.{key}": own[key] for key in ("root", "split") if own.get(key) is not None}
    given = {"data.root": wanted.data, "data.split": wanted.split, "data.name": wanted.dataset}
    return data | {key: str(value) for key, value in given.items() if value is not None}


def _protocol(wanted: Wanted) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if wanted.mask:
        found["eval.mask"] = wanted.mask
    if wanted.align:
        found["eval.align"] = wanted.align
    if wanted.resolution is None:
        return found
    resolution = parse_resolution(wanted.resolution)
    if not isinstance(resolution, str):
        found["data.resolution"] = list(resolution)
        resolution = "reduced"
    return found | {"eval.resolutions": [resolution], "eval.select.resolution": resolution}


def _print_results(plan: StudyPlan, db: Path, runs_dir: Path) -> None:
    """One table per resolution, in the manner of the progress log."""
    (item,) = plan.chosen
    with open_results(db, runs_dir) as results:
        (summary,) = summarise(results, plan.study.study, plan.task.metrics)
    run = next(run for run in summary.runs if run.run_id == item.identity.run_id)
    say(f"a row of `ablate report {plan.study.study}`; all of it: `ablate show {run.run_id}`")
    emit("\n\n".join([f"## {run.name}", *_tables(run, plan.task.metrics)]))


def _tables(run: RunSummary, metrics: Sequence[Metric]) -> list[str]:
    # nothing is selected if no image of the validation list has a valid pixel
    scores = [score for score in run.scores if score.checkpoint == "selected"] or list(run.scores)
    blocks: list[str] = []
    for score in scores:
        headers = [f"{metric.header} {_ARROWS[metric.better]}" for metric in metrics]
        row = ["–" if (value := score.metrics.get(metric.key)) is None else f"{value:.3f}" for metric in metrics]
        table = tabulate([row], headers, tablefmt="pipe", colalign=["center"] * len(row), disable_numparse=True)
        blocks += [f"#### Output ({score.resolution.capitalize()} size)", _about(score), table]
    return blocks


def _about(score: Score) -> str:
    skipped = f" ({score.skipped} without a valid pixel left out)" if score.skipped else ""
    protocol = [f"{key.replace('_', ' ')} {show(value)}" for key, value in score.protocol.items()]
    return ", ".join([f"{score.split} split", f"{score.images} image{'s' * (score.images != 1)}{skipped}", *protocol])
