"""A chart as a value, and text from studies made fit for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.picture import LONGEST, clean

__all__ = ["Chart", "clean", "labels"]


@dataclass(frozen=True)
class Chart:
    """`spec` is a Vega-Lite specification with its numbers in it, without colours of a theme (see `theme.config`).

    `name` is fit for a file name. `caption` says in plain text what the numbers are from; neither it nor `title` is
    escaped.
    """

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]


def labels(names: Iterable[str]) -> dict[str, str]:
    """A clean label for each name; different names have different ones."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in found:
            continue
        label, number = clean(name), 1
        while label in taken:
            number += 1
            label = f"{clean(name, LONGEST - 5)} ({number})"
        found[name] = label
        taken.add(label)
    return found
