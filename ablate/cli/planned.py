"""How `ablate plan` looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ablate.cli.console import emit, escape, print_table, say
from ablate.cli.edited import changes_of, say_changes
from ablate.cli.needs import Needs
from ablate.cli.parts import Network, count, parts_table, pretrained, sharing
from ablate.cli.parts import as_data as parts_data
from ablate.engine.launch import StudyPlan
from ablate.engine.plan import Action, Planned
from ablate.errors import DataError
from ablate.study.remarks import UNKNOWN, is_unknown
from ablate.task import Description, Part, RunSettings, Task


class _Describer:
    """Describes each configuration once: cells that differ in lr or seed are the same network on the same data."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._known: dict[str, Description] = {}

    def __call__(self, config: RunSettings) -> Description:
        value = config.model_dump(mode="json")
        key = str([value.get("model"), value.get("data")])
        if key not in self._known:
            try:
                self._known[key] = self._task.describe(config)
            except DataError as error:
                raise DataError(f"{self._task.slug(config)}: {error}") from error
        return self._known[key]


def show(plan: StudyPlan, cache: Path, memory: int | None = None) -> None:
    """A table of cells on stdout; counts and notes on stderr.

    cache: of the runs folder; memory: bytes of a device, to say which cells fit. Estimates are made only if it is given.
    """
    describe, needs = _Describer(plan.task), Needs.of(plan, cache, memory)
    axes = list(dict.fromkeys(axis for item in plan.chosen for axis in item.cell.settings))
    seeds = len({item.cell.seed for item in plan.chosen}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    for axis in [*axes, *(["seed"] if seeds else [])]:
        table.add_column(axis.rpartition(".")[2], overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    needs.columns(table)
    table.add_column("action", overflow="fold")
    notes: dict[str, None] = {}
    for item in plan.chosen:
        description = describe(item.cell.config)
        notes.update(dict.fromkeys([*description.notes, *_sharing(item, description)]))
        cells = [_setting(item, axis) for axis in axes] + ([_setting(item, "seed")] if seeds else [])
        parameters, images, action = (escape(cell) for cell in _facts(item, description))
        own = needs.cells(item, description.images.get("train", 0))
        table.add_row(escape(item.identity.name), *map(escape, cells), parameters, images, *own, action)
    print_table(table)
    if networks := _networks(plan.chosen, describe):
        emit("")
        print_table(parts_table(networks))
    say_changes(plan)
    for note in [*(notes or ["no modules are shared between blocks"]), *_remarks(plan.chosen)]:
        say(f"note: {note}")
    needs.say(axes, lambda item: describe(item.cell.config).images.get("train", 0))
    counts = Counter(str(item.action) for item in plan.chosen)
    say(
        f"{plan.study.study}: {len(plan.chosen)} {'cell' if len(plan.chosen) == 1 else 'cells'}: "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
    )


def _networks(chosen: Sequence[Planned], describe: Callable[[RunSettings], Description]) -> list[Network]:
    """The different networks of a plan, by the runs that have them."""
    runs: dict[tuple[Part, ...], list[str]] = {}
    for item in chosen:
        runs.setdefault(describe(item.cell.config).parts, []).append(item.identity.name)
    return [
        (names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else ""), parts) for parts, names in runs.items()
    ]


def _setting(item: Planned, key: str) -> str:
    if is_unknown(key, item.cell.unknown):
        return UNKNOWN
    return str(item.cell.seed) if key == "seed" else text(item.cell.settings.get(key, ""))


def _remarks(chosen: Sequence[Planned]) -> list[str]:
    """What the study says of its cells: of all of them, then of each."""
    of_all = [note for note in chosen[0].cell.notes if all(note in item.cell.notes for item in chosen)]
    found = list(of_all) if len(chosen) > 1 else []
    for item in chosen:
        name, cell = item.identity.name, item.cell
        found += [f"{name}: {note}" for note in cell.notes if len(chosen) == 1 or note not in of_all]
        found += [f"{name}: not stated: {', '.join(cell.unknown)}"] if cell.unknown else []
    return found


def _facts(item: Planned, description: Description) -> tuple[str, str, str]:
    action = str(item.action) if item.action in (Action.DONE, Action.NEW) else f"{item.action}: {item.why}"
    return count(description.parameters), _images(description), action


def _images(description: Description) -> str:
    """Training, validation and test images: 96/12/12."""
    return "/".join(str(description.images[split]) for split in description.images)


def _sharing(item: Planned, description: Description) -> list[str]:
    return [f"{item.identity.name}: {sharing(part)}" for part in description.parts if part.shared]


def text(value: Any) -> str:
    """A setting as it is written in a study; sizes as HxW, like everywhere."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return f"{value[0]}x{value[1]}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_data(plan: StudyPlan, cache: Path, memory: int | None = None) -> list[dict[str, Any]]:
    describe, needs = _Describer(plan.task), Needs.of(plan, cache, memory)
    changes = changes_of(plan)
    return [
        {
            "position": item.cell.position,
            "run_id": item.identity.run_id,
            "name": item.identity.name,
            "settings": dict(item.cell.settings),
            "seed": item.cell.seed,
            "action": str(item.action),
            "why": item.why,
            "change": changes.kind(item.identity.run_id) if changes is not None else None,
            "parameters": describe(item.cell.config).parameters,
            "pretrained": pretrained(describe(item.cell.config).parts),
            "parts": parts_data(describe(item.cell.config).parts),
            "images": dict(describe(item.cell.config).images),
            **needs.as_data(item, describe(item.cell.config).images.get("train", 0)),
            "notes": list(item.cell.notes),
            "unknown": list(item.cell.unknown),
            "shared": {part.name: list(part.shared) for part in describe(item.cell.config).parts if part.shared},
        }
        for item in plan.chosen
    ]
