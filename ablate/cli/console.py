"""Data goes to stdout, talk goes to stderr. Colours follow the terminal and NO_COLOR."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from ablate.errors import AblateError

talk = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A sentence for the person at the terminal; never interpreted as markup."""
    talk.print(escape(text))


def fail(error: AblateError) -> None:
    talk.print(f"[bold red]error:[/] {escape(str(error))}")


def emit(text: str) -> None:
    """Data for stdout, as it is: what a pipe gets is what a person sees."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_table(table: Table) -> None:
    """As wide as it needs to be, on a terminal as in a pipe: a cut number is worse than a wrapped line."""
    wide = Console(highlight=False, width=1000)
    needed = Measurement.get(wide, wide.options, table).maximum
    Console(highlight=False, width=needed).print(table)
