"""`ablate stop`, `retry`, `rm`, `gc` and `verify`: looking after runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS
from ablate.cli.studies import command_line

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")]


def stop(
    words: options.Words = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    wait: Annotated[float, typer.Option("--wait", min=0.0, help="Seconds to wait for it to save and end.")] = 120.0,
) -> None:
    """Ask whoever trains these runs or studies to finish the step, save and end, and wait for it.

    Example: ablate stop quickstart
    """
    from ablate.cli.care import stop_all

    raise typer.Exit(stop_all(words or [], db, runs_dir, wait))


def retry(
    words: options.Words = None,
    failed: Annotated[bool, typer.Option("--failed", help="Runs that failed, but those that diverged.")] = False,
    reason: Annotated[
        list[str] | None,
        typer.Option("--reason", metavar="oom|crash|…", help="Only runs with this reason; may be repeated."),
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Drop their checkpoints first.")] = False,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    workers: options.Workers = None,
    device: options.Device = "cpu",
    per_device: options.PerDevice = None,
    threads: options.Threads = None,
) -> None:
    """Train runs again that failed, from their last checkpoint; those that diverged only with --reason diverged.

    Example: ablate retry --failed --reason oom compressed
    """
    from ablate.cli.care import retry_all
    from ablate.engine.launch import Where
    from ablate.runs.paths import RunsDir

    where = Where(RunsDir(runs_dir), device, workers, threads, from_scratch, per_device)
    raise typer.Exit(retry_all(words or [], failed, reason or [], where, db, command_line()))


def rm(
    words: options.SomeRuns,
    yes: Yes = False,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Remove runs with everything in them; a study that holds one has it queued again. Says what first.

    Example: ablate rm k3v9 --yes
    """
    from ablate.cli.care import remove_all

    remove_all(words, yes, db, runs_dir)


def gc(
    words: options.Words = None,
    keep: Annotated[
        str, typer.Option("--keep", metavar="best,last", help="Weights to keep of complete runs.")
    ] = "best,last",
    every: Annotated[
        int | None, typer.Option("--every", min=1, metavar="K", help="Keep also every K-th epoch, where stored.")
    ] = None,
    yes: Yes = False,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Make room: checkpoint files that no policy keeps. Unfinished runs keep all that a resume needs.

    Example: ablate gc --keep best --yes
    """
    from ablate.cli.care import collect_all
    from ablate.engine.collect import Policy

    collect_all(words or [], Policy.parse(keep, every), yes, db, runs_dir)


def verify(
    words: options.OneRun,
    kills: Annotated[int, typer.Option("--kills", min=1, max=10_000, help="How many SIGKILLs.")] = 20,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps of the stretch.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides when the kills come.")] = 0,
    evaluate: Annotated[
        bool, typer.Option("--evaluation/--no-evaluation", help="Whether validation and test take part.")
    ] = True,
    device: Annotated[
        str | None, typer.Option("--device", help="Default: that of the newest attempt.", show_default=False)
    ] = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Train the first steps of a run undisturbed and with kills, and certify whether both are the same bit for bit.

    Example: ablate verify k3v9 --kills 20
    """
    from ablate.cli.care import verify_one
    from ablate.cli.chosen import one_path
    from ablate.engine.verify import Wanted

    paths = one_path(words, db, runs_dir)
    raise typer.Exit(verify_one(paths, Wanted(kills, steps, seed, evaluate, device), as_json))
