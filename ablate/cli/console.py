"""Data goes to stdout, talk goes to stderr. Colours follow the terminal and NO_COLOR."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape

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
