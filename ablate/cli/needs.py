"""What the cells of a plan need: memory, operations and time, and what swapping a part of the network could gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ablate.cli.console import escape, say
from ablate.engine.launch import StudyPlan
from ablate.engine.pace import Pace, measured, seconds_left
from ablate.engine.plan import Planned
from ablate.task import Cost

GIGA = 1e9


@dataclass(frozen=True)
class Needs:
    """By shape of a step: its cost, as far as known, and the pace of runs of that shape that have trained.

    `memory`: bytes that a device has; None if nobody asked.
    """

    plan: StudyPlan
    costs: dict[str, Cost]
    paces: dict[str, Pace]
    memory: int | None

    @classmethod
    def of(cls, plan: StudyPlan, cache: Path, memory: int | None) -> Needs:
        """Estimates what is not known if `memory` is given, and says so, as that takes a while for each shape."""
        task, costs = plan.task, dict[str, Cost]()
        shapes = {task.shape(item.cell.config): item for item in reversed(plan.chosen)}
        unknown = []
        for shape, item in reversed(shapes.items()):
            cost = task.cost(item.cell.config, cache, compute=False)
            if cost is not None:
                costs[shape] = cost
            elif memory is not None:
                unknown.append((shape, item))
        for number, (shape, item) in enumerate(unknown, start=1):
            say(f"estimating {item.identity.name}, shape {number} of {len(unknown)}: may take a minute …")
            cost = task.cost(item.cell.config, cache, compute=True)
            if cost is not None:
                costs[shape] = cost
        return cls(plan, costs, measured(plan.cells, task), memory)

    def cost(self, item: Planned) -> Cost | None:
        return self.costs.get(self.plan.task.shape(item.cell.config))

    def fits(self, item: Planned) -> bool | None:
        """None if that is not known."""
        cost = self.cost(item)
        return None if cost is None or self.memory is None else cost.peak_bytes <= self.memory

    def seconds(self, item: Planned, images: int) -> float | None:
        """Training that is left; None if no run of this shape has trained an epoch."""
        pace = self.paces.get(self.plan.task.shape(item.cell.config))
        return None if pace is None else seconds_left(item, pace, images)

    def columns(self, table: Table) -> None:
        if self.costs or self.memory is not None:
            table.add_column("memory", justify="right", no_wrap=True)
            table.add_column("GFLOP/image", justify="right", no_wrap=True)
        if self.paces:
            table.add_column("time left", justify="right", no_wrap=True)

    def cells(self, item: Planned, images: int) -> list[str]:
        """As many as `columns` added."""
        found = []
        cost = self.cost(item)
        if self.costs or self.memory is not None:
            found += ["", ""] if cost is None else [self._memory(item, cost), f"{cost.forward_flops / GIGA:.3g}"]
        if self.paces:
            seconds = self.seconds(item, images)
            found.append("" if seconds is None else duration(seconds))
        return [escape(text) for text in found]

    def _memory(self, item: Planned, cost: Cost) -> str:
        needed = cost.peak_bytes / GIGA
        if self.memory is None or self.fits(item):
            return f"{needed:.1f} GB" if needed >= 1 else f"{needed:.2g} GB"
        limit = self.memory / GIGA
        digits = 1 if f"{needed:.1f}" != f"{limit:.1f}" else 3  # "8.0 of 8.0 GB" would puzzle
        return f"does not fit: {needed:.{digits}f} of {limit:.{digits}f} GB"

    def say(self, axes: Sequence[str], images: Callable[[Planned], int]) -> None:
        """On stderr: what an axis can gain, what does not fit, and how long the study takes."""
        for line in [*self._ceilings(axes), *self._unfit(), *self._eta(images)]:
            say(f"note: {line}")

    def _ceilings(self, axes: Sequence[str]) -> list[str]:
        """Of the parts of a forward pass that an axis of the study swaps; one line for all cells that agree."""
        runs: dict[str, list[str]] = {}
        for item in self.plan.chosen:
            cost = self.cost(item)
            for share in cost.shares if cost else ():
                if set(share.settings) & set(axes):
                    text = (
                        f"{share.name} is {percent(share.part)} of the {cost.forward_flops / GIGA if cost else 0:.3g} "
                        f"GFLOP of a forward pass: without it at most {share.ceiling:.2f}x faster"
                    )
                    runs.setdefault(text, []).append(item.identity.name)
        several = len(runs) > 1
        return [f"{text}{_among(names) if several else ''}" for text, names in runs.items()]

    def _unfit(self) -> list[str]:
        unfit = sum(self.fits(item) is False for item in self.plan.chosen)
        if not unfit or self.memory is None:
            return []
        cells = "1 cell does" if unfit == 1 else f"{unfit} cells do"
        return [f"{cells} not fit into {self.memory / GIGA:.1f} GB; docs/recipes.md says what saves memory"]

    def _eta(self, images: Callable[[Planned], int]) -> list[str]:
        """The training of all cells, one after another."""
        times = [self.seconds(item, images(item)) for item in self.plan.chosen if item.action.trains]
        known = [seconds for seconds in times if seconds is not None]
        if not known:
            return []
        devices = ", ".join(sorted({pace.device for pace in self.paces.values()}))
        rest = len(times) - len(known)
        unknown = f"; {rest} of {len(times)} cells have a shape that none has trained yet" if rest else ""
        return [f"{duration(sum(known))} left, one run after another, as measured on {devices}{unknown}"]

    def as_data(self, item: Planned, images: int) -> dict[str, Any]:
        cost = self.cost(item)
        return {
            "peak_bytes": cost and cost.peak_bytes,
            "fits": self.fits(item),
            "forward_flops": cost and cost.forward_flops,
            "step_flops": cost and cost.step_flops,
            "shares": {share.name: share.part for share in cost.shares} if cost else None,
            "seconds_left": self.seconds(item, images),
        }


def percent(part: float) -> str:
    return f"{100 * part:.2g} %"


def duration(seconds: float) -> str:
    """`42 s`, `17 min`, `35.5 h`, `12 days`; `<1 s` for next to nothing."""
    if 0 < seconds < 1:
        return "<1 s"
    for size, unit, limit in ((1, "s", 120), (60, "min", 7200), (3600, "h", 72 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _among(names: Sequence[str]) -> str:
    return f" ({names[0]}" + (f" and {len(names) - 1} more)" if len(names) > 1 else ")")
