"""Data goes to stdout, talk goes to stderr. Colours follow the terminal and NO_COLOR."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich import markup
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ablate.errors import AblateError, DiskError, UsageError

talk = Console(stderr=True, highlight=False, soft_wrap=True)


def harmless(text: str) -> str:
    """Stored text without the control characters that would rewrite the screen."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf") else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def escape(text: str) -> str:
    """Stored text made harmless, and no markup either."""
    return markup.escape(harmless(text))


def say(text: str) -> None:
    """A sentence for the person at the terminal; never interpreted as markup."""
    talk.print(escape(text))


def fail(error: AblateError) -> None:
    talk.print(f"[bold red]error:[/] {escape(str(error))}")


def of_the_system(error: OSError) -> AblateError | None:
    """What the operating system refused, as an error for the user; None if it names no file, and so may be a bug."""
    from ablate.runs.files import is_disk_error

    reason = (error.strerror or str(error)).lower()
    text = f"{error.filename}: {reason}" if error.filename else reason
    if is_disk_error(error):
        return DiskError(f"{text}; make room or make it writable, or name other places with --runs-dir and --db")
    return UsageError(f"{text}; name another place, or put this one right") if error.filename else None


@contextmanager
def interruptible(text: str) -> Iterator[None]:
    """Ctrl-C ends the command with `text` and exit code 130. For what has nothing to save."""
    try:
        yield
    except KeyboardInterrupt:
        say(text)
        raise typer.Exit(130) from None


def emit(text: str) -> None:
    """Data for stdout, as it is: what a pipe gets is what a person sees."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_table(table: Table) -> None:
    """As wide as it needs to be, on a terminal as in a pipe: a cut number is worse than a wrapped line."""
    wide = Console(highlight=False, width=1000)
    needed = Measurement.get(wide, wide.options, table).maximum
    Console(highlight=False, width=needed).print(table)
