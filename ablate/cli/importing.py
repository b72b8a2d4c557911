"""`ablate import`: what others recorded, as runs beside one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from ablate.external.store import Found, Taken
    from ablate.task import Task


def import_(
    source: Annotated[
        str, typer.Argument(metavar="FILE.md|wandb", help="A progress log; or the word wandb.", show_default=False)
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="With wandb: where offline-run-* are.", show_default=False)
    ] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", help="The study that gets the rows. Default: the name of the log, or wandb's project."),
    ] = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Take the runs of a progress log, or of wandb's offline files, into reports: marked, and never trained here.

    Example: ablate import progress-log.md
    """
    from ablate.cli.console import say
    from ablate.engine.tasks import find_task
    from ablate.external import store
    from ablate.runs.paths import RunsDir

    task = find_task("depth")
    if study is not None:
        store.checked_name(study)
    found, remarks, default = _read(source, folder, task)
    name = study or store.study_name(default)
    taken = store.take_in(found, RunsDir(runs_dir), name, task)
    for remark in remarks:
        say(f"note: {remark}")
    _print(taken, name)
    _bring_in(db, runs_dir)


def _read(source: str, folder: Path | None, task: Task) -> tuple[list[Found], list[str], str]:
    """The runs, remarks, and what the study is called if nobody says."""
    from ablate.depth import logged
    from ablate.errors import UsageError

    if source == "wandb":
        from ablate.external.from_wandb import read_folder

        if folder is None:
            raise UsageError("name the folder that holds wandb's offline-run-*: ablate import wandb wandb/")
        found, remarks = read_folder(folder, task, logged)
        return found, remarks, found[0].origin.facts.get("project") or "wandb"
    if folder is not None:
        raise UsageError(f"{folder}: one log at a time; a folder of wandb's files is read by `ablate import wandb DIR`")
    from ablate.external.from_log import read_log

    found, remarks = read_log(Path(source), task, logged)
    return found, remarks, Path(source).stem


def _print(taken: Taken, study: str) -> None:
    from ablate.cli.console import emit, harmless, say

    for word, runs in (("new", taken.new), ("unchanged", taken.unchanged)):
        for run in runs:
            emit(harmless(f"{word:<9}  {run}"))
    for before, now in taken.changed:
        emit(harmless(f"{'changed':<9}  {now} takes the place of {before}, which stays in the folder of runs"))
    for run in taken.gone:
        emit(harmless(f"{'gone':<9}  {run} is no longer in the source; it leaves the study and stays in the folder"))
    counts = {
        "new": len(taken.new),
        "changed": len(taken.changed),
        "unchanged": len(taken.unchanged),
        "gone": len(taken.gone),
    }
    say(f"{study}: {', '.join(f'{count} {word}' for word, count in counts.items() if count)}")


def _bring_in(db: Path, runs_dir: Path) -> None:
    """The database is an index: if it is busy, the next report takes the runs in."""
    from ablate.cli.console import say
    from ablate.errors import DatabaseError
    from ablate.results import ingest

    try:
        ingest.ingest(db, runs_dir, wait=2.0)
    except (DatabaseError, OSError) as error:
        say(f"warning: {error}\n  the runs are there; `ablate db rebuild` makes the database again from them")
