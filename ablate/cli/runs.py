"""`ablate resume`, `status`, `ls` and `show`: commands about runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS
from ablate.cli.studies import command_line

if TYPE_CHECKING:
    from ablate.results.open import Results


def resume(
    run: options.Run,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    settings: options.Set = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Drop the checkpoints and train from the first step again.")
    ] = False,
) -> None:
    """Go on with one run from its last checkpoint, bit for bit; also one that failed.

    Example: ablate resume k3v9
    """
    from ablate.cli.training import go_on
    from ablate.engine.launch import Where
    from ablate.runs.directory import find_run
    from ablate.runs.paths import RunsDir

    folder = RunsDir(runs_dir)
    where = Where(folder, device, 1, threads, from_scratch)
    raise typer.Exit(go_on(find_run(folder, run), where, db, settings or [], command_line()))


def extend(
    run: options.Run,
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
    from ablate.runs.directory import find_run
    from ablate.runs.paths import RunsDir

    folder = RunsDir(runs_dir)
    longer = extending.extend(find_run(folder, run), epochs, folder, command_line(), say)
    raise typer.Exit(go_on(longer, Where(folder, device, 1, threads), db, [], command_line()))


def status(db: options.Db = DEFAULT_DB, runs_dir: options.Runs = DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """How far each study has come, and what is running now.

    Example: ablate status --json
    """
    from ablate.cli.console import emit
    from ablate.cli.listing import show_status, status_data
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        rows = results.runs()
        _say_how_fresh(results)
    if as_json:
        emit(json.dumps(status_data(rows), indent=1))
    else:
        show_status(rows)
    _say_what_wandb_lacks(runs_dir)


def ls(db: options.Db = DEFAULT_DB, runs_dir: options.Runs = DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """All runs, one a line.

    Example: ablate ls --json
    """
    from ablate.cli.console import emit
    from ablate.cli.listing import runs_data, show_runs
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        rows = results.runs()
        _say_how_fresh(results)
    if as_json:
        emit(json.dumps(runs_data(rows), indent=1))
    else:
        show_runs(rows)


def show(
    run: options.Run,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """All about one run: configuration, attempts, metrics of every epoch, files, and the command that made it.

    RUN@6 shows its sixth epoch alone. Example: ablate show k3v9
    """
    from ablate.cli.console import emit
    from ablate.cli.details import gather, show_details
    from ablate.results.open import open_results
    from ablate.runs.directory import split_epoch

    with open_results(db, runs_dir) as results:
        name, epoch = split_epoch(run)
        details = gather(results, results.resolve(name))
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
