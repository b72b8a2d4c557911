"""What `ablate plan` and `ablate run` say of a study that was edited since it was run last."""

from __future__ import annotations

import time
from collections import Counter

from ablate.cli.console import say
from ablate.engine.changes import Changes, Kind, since_last_run
from ablate.engine.launch import StudyPlan
from ablate.errors import RecordError

_MOST = 20
"""Cells of a kind that are named one by one."""


def changes_of(plan: StudyPlan) -> Changes | None:
    """None if the study was never run here, or if its record cannot be read, which `ablate doctor` explains."""
    try:
        return since_last_run(plan)
    except RecordError as error:
        say(f"warning: {error}")
        return None


def say_changes(plan: StudyPlan) -> None:
    """Says nothing about a study that is as it was."""
    changes = changes_of(plan)
    if not changes:
        return
    declared = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changes.declared))
    say(f"{plan.study.study} differs from what was run at {declared}:")
    for sentence in changes.settings:
        say(f"  {sentence}")
    counts = Counter(cell.kind for cell in changes.cells)
    say(f"  cells: {', '.join(f'{counts[kind]} {kind}' for kind in Kind if counts[kind])}")
    for kind in (Kind.NEW, Kind.GONE):
        cells = [cell for cell in changes.cells if cell.kind is kind]
        for cell in cells[:_MOST]:
            say(f"  {kind:<9} {cell.name}: {cell.why}")
        if len(cells) > _MOST:
            say(f"  and {len(cells) - _MOST} more that are {kind}")
