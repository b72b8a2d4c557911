"""`ablate sql`: questions of one's own to the results."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ablate.results.asking import Column
    from ablate.results.open import Results

Format = Annotated[Literal["table", "md", "csv", "json"], typer.Option("--format", help="What to print.")]

_IN_MEMORY = 32 * 2**20
"""Bytes of an answer that are kept in memory until the database is closed; longer ones go to a temporary file."""


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY|-]", help="One SELECT; - reads it from stdin.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="Read the query from a file.", show_default=False),
    ] = None,
    form: Format = "table",
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.01, help="Give up after so many seconds.", show_default=False)
    ] = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Ask the results a question in SQL, read-only, after taking in what is new; docs/results.md lists the views.

    Example: ablate sql "SELECT name, split, abs_rel FROM leaderboard ORDER BY abs_rel" --format md
    """
    from ablate.cli.console import interruptible, say
    from ablate.results.open import open_results

    text = _text(query, file)
    with interruptible("interrupted; a question changes nothing"):
        with open_results(db, runs_dir) as results:
            out = _answer(results, text, form, timeout)
            said = [results.freshness, *(f"warning: not readable: {problem}" for problem in results.unreadable)]
        # The database is free again by now, however long a pager takes.
        with out:
            for line in said:
                say(line)
            while part := out.read(2**20):
                sys.stdout.write(part)


def _answer(results: Results, text: str, form: str, timeout: float | None) -> SpooledTemporaryFile[str]:
    """The answer as an open file, at its start."""
    from ablate.report.answers import WRITERS
    from ablate.results.asking import ask

    out = SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="")  # noqa: SIM115 - given away

    def take(columns: Sequence[Column], rows: Iterator[tuple[Any, ...]]) -> None:
        out.seek(0)
        out.truncate()
        WRITERS[form](columns, rows, out.write)

    try:
        ask(results, text, take, timeout)
        out.seek(0)
    except BaseException:
        out.close()
        raise
    return out


def _text(query: str | None, file: Path | None) -> str:
    """Raises UsageError if there is no query, or two."""
    from ablate.errors import UsageError

    if (query is None) == (file is None):
        raise UsageError('give a query, - for stdin, or -f FILE. Example: ablate sql "SELECT * FROM leaderboard"')
    source = "stdin" if file is None else str(file)
    try:
        text = file.read_text(encoding="utf-8") if file is not None else sys.stdin.read() if query == "-" else query
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if not (text or "").strip():
        raise UsageError(f"{source if file is not None or query == '-' else 'the query'}: empty")
    return text or ""
