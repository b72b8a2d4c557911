"""`ablate db`: the results database, an index over the run directories."""

from __future__ import annotations

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

app = typer.Typer(help="Look after results.duckdb.", no_args_is_help=True)


@app.callback()
def _db() -> None:
    return


@app.command()
def rebuild(db: options.Db = DEFAULT_DB, runs_dir: options.Runs = DEFAULT_RUNS) -> None:
    """Make the database again from the run directories, which hold everything.

    Example: ablate db rebuild
    """
    from ablate.cli.console import say
    from ablate.results.rebuild import rebuild as again

    done = again(db, runs_dir)
    say(f"{db}: made again from {runs_dir} ({done.runs} runs, {done.records:,} records)")
    for problem in done.problems:
        say(f"warning: {problem}")


@app.command()
def verify(db: options.Db = DEFAULT_DB, runs_dir: options.Runs = DEFAULT_RUNS) -> None:
    """Compare every row of the public views with what the run directories say.

    Example: ablate db verify
    """
    from ablate.cli.console import emit, say
    from ablate.results.verify import verify as compare

    found = compare(db, runs_dir)
    for problem in found.problems:
        say(f"warning: {problem}")
    for difference in found.differences:
        emit(difference)
    if found.differences:
        say(f"{db} is not what the runs say; `ablate db rebuild` makes it again")
        raise typer.Exit(1)
    say(f"{db}: all {found.rows:,} rows are what {runs_dir} says")
