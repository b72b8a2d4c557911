"""`ablate resume`, `status`, `ls` and `show`: commands about runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS
from ablate.cli.studies import command_line

if TYPE_CHECKING:
    from ablate.results.open import Results
    from ablate.runs.paths import RunPaths


def resume(
    runs: options.SomeRuns,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    settings: options.Set = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Drop the checkpoints and train from the first step again.")
    ] = False,
) -> None:
    """Go on with a run from its last checkpoint, bit for bit, also one that failed; with several, one after the other.

    Example: ablate resume k3v9
    """
    from ablate.cli.training import go_on
    from ablate.engine.launch import Where
    from ablate.runs.paths import RunsDir

    where = Where(RunsDir(runs_dir), device, 1, threads, from_scratch)
    each = partial(go_on, where=where, db=db, overrides=settings or [], command=command_line())
    raise typer.Exit(_one_by_one(runs, db, runs_dir, each))


def extend(
    runs: options.SomeRuns,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs in all.", show_default=False)],
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Train a finished run for more epochs: another run, equal bit for bit to one that never stopped.

    Example: ablate extend k3v9 --epochs 20
    """
    from ablate.cli.console import say
    from ablate.cli.training import go_on
    from ablate.engine import extend as extending
    from ablate.engine.launch import Where
    from ablate.runs.paths import RunsDir

    folder = RunsDir(runs_dir)

    def each(paths: RunPaths) -> int:
        longer = extending.extend(paths, epochs, folder, command_line(), say)
        return go_on(longer, Where(folder, device, 1, threads), db, [], command_line())

    raise typer.Exit(_one_by_one(runs, db, runs_dir, each))


def _one_by_one(words: list[str], db: Path, runs_dir: Path, each: Callable[[RunPaths], int]) -> int:
    """Does something with every run that was chosen until one is interrupted; returns the worst exit code.

    What is wrong with one of several does not keep the others from it.
    """
    from ablate.cli.chosen import chosen_paths, nothing_fits
    from ablate.cli.console import fail, say
    from ablate.cli.training import HELD, INTERRUPTED
    from ablate.errors import AblateError

    chosen = chosen_paths(words, db, runs_dir)
    if not chosen:
        say(nothing_fits(words))
    worst = 0
    for paths in chosen:
        try:
            code = each(paths)
        except AblateError as error:
            if len(chosen) == 1:
                raise
            fail(error)
            worst = max(worst, error.exit_code)
        else:
            worst = max(worst, code)
            if code in (INTERRUPTED, HELD):  # somebody wants all of it to end
                break
    return worst


def status(
    words: options.Words = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """How far each study has come, and what is running now.

    Example: ablate status quickstart --json
    """
    from ablate.cli.console import emit
    from ablate.cli.listing import show_status, status_data
    from ablate.report.selection import select
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        rows = select(results, words or ())
        _say_how_fresh(results)
    if as_json:
        emit(json.dumps(status_data(rows), indent=1))
    else:
        show_status(rows)
    _say_what_wandb_lacks(runs_dir)


def ls(
    words: options.Words = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Runs, one a line: all, or those that the selectors choose.

    Example: ablate ls quickstart status=failed,paused
    """
    from ablate.cli.console import emit
    from ablate.cli.listing import runs_data, show_runs
    from ablate.report.selection import select
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        rows = select(results, words or ())
        _say_how_fresh(results)
    if as_json:
        emit(json.dumps(runs_data(rows), indent=1))
    else:
        show_runs(rows)


def show(
    words: options.OneRun,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """All about one run: configuration, attempts, metrics of every epoch, files, and the command that made it.

    RUN@6 shows its sixth epoch alone. Example: ablate show k3v9
    """
    from ablate.cli.console import emit
    from ablate.cli.details import gather, show_details
    from ablate.report.selection import select_one
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        run, epoch = select_one(results, words)
        details = gather(results, run)
        details = details if epoch is None else details.of_epoch(epoch)
        _say_what_is_unreadable(results)
    if as_json:
        emit(json.dumps(details.as_data(), indent=1))
    else:
        show_details(details)


def _say_what_wandb_lacks(runs_dir: Path) -> None:
    from ablate.cli.console import say
    from ablate.engine.mirror_target import lacking
    from ablate.runs.paths import RunsDir

    names = [paths.name for paths in RunsDir(runs_dir).runs() if lacking(paths)]
    if names:
        say(f"wandb lacks something of {len(names)} runs, such as {names[0]}; `ablate wandb sync` sends it")


def _say_how_fresh(results: Results) -> None:
    from ablate.cli.console import say

    say(results.freshness)
    _say_what_is_unreadable(results)


def _say_what_is_unreadable(results: Results) -> None:
    """A run that is damaged looks like one that never began; nobody should have to guess."""
    from ablate.cli.console import say

    for problem in results.unreadable:
        say(f"warning: not readable: {problem}")


_ = Path  # typer reads the annotations of the shared options here
