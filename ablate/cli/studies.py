"""`ablate plan`, `ablate run` and `ablate schema`: from a study file to trained runs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from ablate.engine.launch import StudyPlan
    from ablate.engine.plan import Order
    from ablate.engine.policy import Rules


def _overrides(settings: list[str] | None, max_steps: int | None) -> list[str]:
    return [*(settings or []), *([f"train.max_steps={max_steps}"] if max_steps is not None else [])]


def _planned(
    study: Path, runs_dir: Path, settings: list[str], only: list[str] | None, max_cells: int, deferred: bool
) -> StudyPlan:
    from ablate.engine.launch import plan_study
    from ablate.runs.paths import RunsDir

    return plan_study(study, RunsDir(runs_dir), settings, only or [], max_cells, deferred=deferred)


def plan(
    study: options.Study,
    runs_dir: options.Runs = DEFAULT_RUNS,
    only: options.Only = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
    max_cells: options.MaxCells = 100_000,
    deferred: options.Deferred = False,
    memory: options.Memory = None,
    as_json: options.Json = False,
    db: options.Db = DEFAULT_DB,
) -> None:
    """Show the cells of a study: which are done, to resume or new, and why. Nothing is executed.

    Also the smallest difference that 3, 5 and 10 seeds can show, once earlier results tell how much seeds matter.

    With --memory also what a training step needs: memory, and which cells do not fit.

    Example: ablate plan studies/compressed.yaml --only model.attention=performer --memory 8GB
    """
    from ablate.cli.planned import as_data, show
    from ablate.runs.paths import RunsDir

    limit = _size(memory)
    planned = _planned(study, runs_dir, _overrides(settings, max_steps), only, max_cells, deferred)
    cache = RunsDir(runs_dir).cache
    if as_json:
        from ablate.cli.console import emit

        emit(json.dumps(as_data(planned, cache, limit), indent=1))
    else:
        from ablate.cli.console import say
        from ablate.cli.detectable import detectable

        show(planned, cache, limit)
        for sentence in detectable(planned, db, runs_dir):
            say(sentence)


def _size(text: str | None) -> int | None:
    from ablate.errors import UsageError
    from ablate.study.scheduling import parse_size

    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(f"--memory {text}: {error}") from error


def run(
    study: options.Study,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    workers: options.Workers = None,
    device: options.Device = "cpu",
    per_device: options.PerDevice = None,
    threads: options.Threads = None,
    only: options.Only = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
    max_cells: options.MaxCells = 100_000,
    deferred: options.Deferred = False,
    order: options.TrainOrder = "priority",
    max_hours: options.MaxHours = None,
    fail_fast: options.FailFast = False,
    keep_going: options.KeepGoing = False,
    retries: options.Retries = None,
    grace: options.Grace = 60.0,
    stall: options.Stall = 60.0,
) -> None:
    """Train what is missing of a study: new cells, interrupted ones from where they stood, failed ones again.

    Example: ablate run studies/compressed.yaml --workers 2 --set train.epochs=5
    """
    from ablate.cli.training import train
    from ablate.engine.launch import Where
    from ablate.runs.paths import RunsDir

    planned = _planned(study, runs_dir, _overrides(settings, max_steps), only, max_cells, deferred)
    where = Where(
        RunsDir(runs_dir),
        device,
        workers,
        threads,
        per_device=per_device,
        rules=_rules(fail_fast, keep_going, max_hours, retries, grace, stall),
        order=_order(order),
    )
    raise typer.Exit(train(planned, where, db, command_line()))


def _order(name: str) -> Order:
    from ablate.engine.plan import Order
    from ablate.errors import UsageError

    if name not in list(Order):
        raise UsageError(f"--order {name}: expected one of {', '.join(Order)}")
    return Order(name)


def _rules(
    fail_fast: bool, keep_going: bool, max_hours: float | None, retries: int | None, grace: float, stall: float
) -> Rules:
    from ablate.engine.policy import Rules, limited
    from ablate.errors import UsageError

    if fail_fast and keep_going:
        raise UsageError("--fail-fast and --keep-going exclude each other")
    if not all(math.isfinite(number) for number in (max_hours or 0.0, grace, stall)):
        raise UsageError("--max-hours, --grace and --stall take finite numbers")
    return Rules(
        fail_fast=fail_fast,
        keep_going=keep_going,
        max_seconds=None if max_hours is None else max_hours * 3600,
        grace=grace,
        stall=stall * 60 or None,
        retries=limited(retries),
    )


def command_line() -> list[str]:
    """The command as it was typed, for the record and for going on."""
    return ["ablate", *sys.argv[1:]]


def schema() -> None:
    """Print the JSON Schema of study files, for editors.

    Example: ablate schema > studies/schema.json
    """
    from ablate.cli.console import emit
    from ablate.engine.tasks import Tasks
    from ablate.study import json_schema

    tasks = Tasks()
    emit(json.dumps(json_schema({name: tasks[name].Config for name in tasks}), indent=1))
