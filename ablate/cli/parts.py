"""How the parts of networks look: parameters, how much of them a file of weights gives, and modules that are shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from ablate.cli.console import escape
from ablate.task import Part

Network = tuple[str, Sequence[Part]]
"""What to call it, and its parts."""


def parts_table(networks: Sequence[Network]) -> Table:
    """A line for each network, with a column for each part."""
    names = dict.fromkeys(part.name for _, parts in networks for part in own(parts))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("parameters and pretrained %", no_wrap=True)
    for name in names:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, parts in networks:
        cells = {part.name: f"{count(part.parameters)}{percent(part.pretrained, ' ')}" for part in own(parts)}
        table.add_row(escape(label), *(cells.get(name, "") for name in names))
    return table


def part_rows(parts: Sequence[Part]) -> Iterable[tuple[str, str, str]]:
    """(name, parameters, pretrained %) of each part, then of the whole."""
    for part in own(parts):
        yield part.name, count(part.parameters), percent(part.pretrained)
    yield "all", count(sum(part.parameters for part in own(parts))), percent(pretrained(parts))


def own(parts: Sequence[Part]) -> list[Part]:
    """The parts that add up to the network, without the modules that are shared."""
    return [part for part in parts if not part.shared]


def pretrained(parts: Sequence[Part]) -> float | None:
    """The share of all parameters that a file of weights gives; None without one."""
    found = own(parts)
    if not found or any(part.pretrained is None for part in found):
        return None
    return sum(part.parameters * (part.pretrained or 0) for part in found) / sum(part.parameters for part in found)


def sharing(part: Part) -> str:
    return f"{part.name} is one module with {', '.join(part.shared)}"


def as_data(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [{"name": part.name, "parameters": part.parameters, "pretrained": part.pretrained} for part in own(parts)]


def of_facts(facts: Mapping[str, Any]) -> tuple[Part, ...]:
    """The parts that an attempt stored when it was opened."""
    found = facts.get("parts") or ()
    return tuple(
        Part(str(part["name"]), int(part["parameters"]), tuple(part["shared"]), part["pretrained"]) for part in found
    )


def count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else str(parameters)


def percent(share: float | None, before: str = "") -> str:
    """'100%' and '0%' are exact; what is almost so is not rounded to them. "" for None."""
    if share is None:
        return ""
    shown = share if share in (0, 1) else min(max(share, 0.001), 0.999)
    return f"{before}{100 * shown:.0f}%" if share in (0, 1) else f"{before}{100 * shown:.1f}%"
