"""`ablate report`: the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS


def report(
    study: Annotated[
        str | None, typer.Argument(help="A study's name or file; all studies if not given.", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="md|csv|json|html", help="What to print.")] = "md",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file.", show_default=False)
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write the page again and again while runs train. With --format html and -o."),
    ] = False,
    every: Annotated[float, typer.Option("--every", help="Seconds between two versions of a watched page.")] = 5.0,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Print the results: one row per run, all numbers of a row from one checkpoint.

    Example: ablate report quickstart --format html -o report.html --watch
    """
    from ablate.cli.console import emit, say
    from ablate.cli.tables import tables

    if form == "html" or watch:
        from ablate.cli.pages import print_page

        print_page(study, form, output, every if watch else None, db, runs_dir)
        return
    text, freshness = tables(study, form, db, runs_dir)
    say(freshness)
    if output is None:
        emit(text)
    else:
        output.write_text(text, encoding="utf-8")
        say(f"written to {output}")
