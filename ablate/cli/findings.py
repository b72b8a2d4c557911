"""How `ablate doctor` looks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from ablate.cli.console import escape
from ablate.engine.doctor import Finding, Level

_STYLES = {Level.FINE: "green", Level.NOTE: "yellow", Level.WRONG: "bold red"}


def show_findings(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        level = f"[{_STYLES[finding.level]}]{finding.level:<5}[/]"
        console.print(f"{level}  {finding.about:<11}  {escape(finding.text)}")
        if finding.remedy:
            console.print(f"{'':<20}remedy: {escape(finding.remedy)}")
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    console.print(f"{wrong} thing{'s' * (wrong != 1)} wrong" if wrong else "nothing is wrong")
