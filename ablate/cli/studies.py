"""`ablate plan`, `ablate run` and `ablate schema`: from a study file to trained runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from ablate.engine.launch import StudyPlan


def _overrides(settings: list[str] | None, max_steps: int | None) -> list[str]:
    return [*(settings or []), *([f"train.max_steps={max_steps}"] if max_steps is not None else [])]


def _planned(study: Path, runs_dir: Path, settings: list[str], only: list[str] | None, max_cells: int) -> StudyPlan:
    from ablate.engine.launch import plan_study
    from ablate.runs.paths import RunsDir

    return plan_study(study, RunsDir(runs_dir), settings, only or [], max_cells)


def plan(
    study: options.Study,
    runs_dir: options.Runs = DEFAULT_RUNS,
    only: options.Only = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
    max_cells: options.MaxCells = 100_000,
    as_json: options.Json = False,
) -> None:
    """Show the cells of a study: which are done, to resume or new, and why. Nothing is executed.

    Example: ablate plan studies/compressed.yaml --only model.attention=performer
    """
    from ablate.cli.planned import as_data, show

    planned = _planned(study, runs_dir, _overrides(settings, max_steps), only, max_cells)
    if as_json:
        from ablate.cli.console import emit

        emit(json.dumps(as_data(planned), indent=1))
    else:
        show(planned)


def run(
    study: options.Study,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    workers: options.Workers = 1,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    only: options.Only = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
    max_cells: options.MaxCells = 100_000,
) -> None:
    """Train what is missing of a study: new cells, interrupted ones from where they stood, failed ones again.

    Example: ablate run studies/compressed.yaml --workers 2 --set train.epochs=5
    """
    from ablate.cli.training import train
    from ablate.engine.launch import Where
    from ablate.runs.paths import RunsDir

    planned = _planned(study, runs_dir, _overrides(settings, max_steps), only, max_cells)
    raise typer.Exit(train(planned, Where(RunsDir(runs_dir), device, workers, threads), db, command_line()))


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
