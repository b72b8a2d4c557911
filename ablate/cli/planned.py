"""How `ablate plan` looks."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ablate.cli.console import say
from ablate.engine.launch import StudyPlan
from ablate.engine.plan import Planned
from ablate.task import Description, RunSettings, Task


class _Describer:
    """Describes each configuration once: cells that differ in lr or seed are the same network on the same data."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._known: dict[str, Description] = {}

    def __call__(self, config: RunSettings) -> Description:
        value = config.model_dump(mode="json")
        key = str([value.get("model"), value.get("data")])
        if key not in self._known:
            self._known[key] = self._task.describe(config)
        return self._known[key]


def show(plan: StudyPlan) -> None:
    """A table of cells on stdout; counts and notes on stderr."""
    describe = _Describer(plan.task)
    axes = list(dict.fromkeys(axis for item in plan.chosen for axis in item.cell.settings))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "run", *axes, "seed", "parameters", "images", "shared modules", "action", "why"):
        table.add_column(
            column, overflow="fold", justify="right" if column in ("#", "parameters", "images") else "left"
        )
    notes: dict[str, None] = {}
    for item in plan.chosen:
        description = describe(item.cell.config)
        notes.update(dict.fromkeys(description.notes))
        table.add_row(*(escape(text) for text in _row(item, description, axes)))
    console = Console(highlight=False)
    # In a pipe or a file, rows are never folded: other programs read them.
    console.print(table, width=console.width if console.is_terminal else 400)
    for note in notes:
        say(f"note: {note}")
    counts = Counter(str(item.action) for item in plan.chosen)
    say(
        f"{plan.study.study}: {len(plan.chosen)} cells: "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
    )


def _row(item: Planned, description: Description, axes: list[str]) -> list[str]:
    shared = [f"{part.name} = {', '.join(part.shared)}" for part in description.parts if part.shared]
    return [
        str(item.cell.position),
        item.identity.name,
        *(text(item.cell.settings.get(axis, "")) for axis in axes),
        str(item.cell.seed),
        f"{description.parameters / 1e6:.2f} M" if description.parameters >= 1e5 else f"{description.parameters:,}",
        f"{description.images.get('train', 0):,}",
        "; ".join(shared) or "none",
        str(item.action),
        item.why,
    ]


def text(value: Any) -> str:
    """A setting as it is written in a study; sizes as HxW, like everywhere."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return f"{value[0]}x{value[1]}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_data(plan: StudyPlan) -> list[dict[str, Any]]:
    describe = _Describer(plan.task)
    return [
        {
            "position": item.cell.position,
            "run_id": item.identity.run_id,
            "name": item.identity.name,
            "settings": dict(item.cell.settings),
            "seed": item.cell.seed,
            "action": str(item.action),
            "why": item.why,
            "parameters": describe(item.cell.config).parameters,
            "images": dict(describe(item.cell.config).images),
            "shared": {part.name: list(part.shared) for part in describe(item.cell.config).parts if part.shared},
        }
        for item in plan.chosen
    ]
