"""How notes, tags and the source of an imported run look on a terminal."""

from __future__ import annotations

import json

from rich.console import Console

from ablate.cli.console import escape
from ablate.cli.noting import when
from ablate.results.records import Origin, RunRow

_MOST = 300
"""Characters of a fact that are shown; `ablate show --json` has all."""


def show_remarks(run: RunRow) -> None:
    """What people wrote about the run; further lines of a note stand below its first."""
    console = Console(highlight=False, soft_wrap=True)
    for remark in run.remarks:
        first, *rest = escape(remark.text).split("\n")
        console.print(f"note {remark.number:<7} {when(remark)}: {first}")
        for line in rest:
            console.print(f"{'':13}{line}")
    if run.tags:
        console.print(f"tags         {escape(', '.join(run.tags))}")


def show_origin(origin: Origin) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"external     {escape(origin.label)}, not measured here (SHA-256 {escape(origin.sha256)})")
    console.print(f"title        {escape(origin.title)}")
    for key, value in origin.facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        console.print(f"{escape(key):<12} {escape(text[:_MOST])}{'…' * (len(text) > _MOST)}")
    console.print(f"not stated   {escape(', '.join(origin.unknown) or 'nothing')}")
