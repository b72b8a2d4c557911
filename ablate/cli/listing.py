"""How `ablate status` and `ablate ls` look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ablate.cli.console import escape, print_table
from ablate.cli.live import describe
from ablate.engine.progress import Progress, read_progress
from ablate.results.records import RunRow
from ablate.runs.paths import RunPaths
from ablate.runs.states import State

_STYLES = {
    State.COMPLETE: "green",
    State.FAILED: "bold red",
    State.PAUSED: "yellow",
    State.RUNNING: "cyan",
    State.QUEUED: "dim",
}
NO_STUDY = "(no study)"


def progress_of(row: RunRow) -> Progress | None:
    """Where a running run stands; None for all others."""
    if row.status is not State.RUNNING or row.directory is None:
        return None
    return read_progress(RunPaths(row.directory).progress)


def coloured(state: State) -> str:
    return f"[{_STYLES[state]}]{state}[/]"


def by_study(rows: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    studies: dict[str, list[RunRow]] = {}
    for row in rows:
        studies.setdefault(row.study or NO_STUDY, []).append(row)
    return studies


def show_status(rows: Sequence[RunRow]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "runs", *State):
        table.add_column(str(column), justify="left" if column == "study" else "right")
    for study, held in by_study(rows).items():
        counts = Counter(row.status for row in held)
        table.add_row(escape(study), str(len(held)), *(str(counts[state] or "") for state in State))
    print_table(table)
    console = Console(highlight=False, soft_wrap=True)
    for row in {row.run_id: row for row in rows}.values():
        if row.status is State.RUNNING:
            progress = progress_of(row)
            console.print(
                f"{coloured(row.status)} {escape(row.name)}: {escape(describe(progress) if progress else 'starting')}"
            )
        elif row.status in (State.FAILED, State.PAUSED):
            reason = f"{row.reason}: {(row.message or '').partition(chr(10))[0]}"
            console.print(f"{coloured(row.status)} {escape(row.name)}: {escape(reason)}")


def show_runs(rows: Sequence[RunRow]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "study", "status", "reason", "epoch", "attempts"):
        table.add_column(column, justify="right" if column in ("epoch", "attempts") else "left", overflow="fold")
    for row in rows:
        epoch = "" if row.last_epoch is None else str(row.last_epoch)
        table.add_row(
            escape(row.name),
            escape(row.study or ""),
            coloured(row.status),
            str(row.reason or ("external" if row.external else "")),
            epoch,
            str(row.attempts),
        )
    print_table(table)


def runs_data(rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    return [
        {
            "run_id": row.run_id,
            "name": row.name,
            "study": row.study,
            "status": str(row.status),
            "reason": None if row.reason is None else str(row.reason),
            "message": row.message,
            "last_epoch": row.last_epoch,
            "attempts": row.attempts,
            "settings": dict(row.settings),
            "directory": None if row.directory is None else str(row.directory),
            "command": row.command,
            "external": None if row.external is None else vars(row.external),
            "remarks": [vars(remark) for remark in row.remarks],
            "tags": list(row.tags),
        }
        for row in rows
    ]


def status_data(rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    data = []
    for study, held in by_study(rows).items():
        counts = Counter(str(row.status) for row in held)
        running = {row.run_id: progress_of(row) for row in held if row.status is State.RUNNING}
        data.append(
            {
                "study": None if study == NO_STUDY else study,
                "runs": len(held),
                **{str(state): counts[str(state)] for state in State},
                "progress": {run_id: vars(progress) if progress else None for run_id, progress in running.items()},
            }
        )
    return data
