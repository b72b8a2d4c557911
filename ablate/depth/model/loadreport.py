"""What became of every tensor when weights were put into a network. No torch here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablate.task import Json

Kind = Literal["loaded", "reshaped", "missing", "unexpected"]
KINDS: tuple[Kind, ...] = ("loaded", "reshaped", "missing", "unexpected")

Shape = tuple[int, ...]

SHOWN = 5
"""Names that an error gives of each kind."""


@dataclass(frozen=True)
class Entry:
    """One tensor.

    loaded: the file's tensor is the network's. reshaped: it is, after a change of shape that `why` names; without
    a `why` the shapes do not fit. missing: the network's tensor keeps its start. unexpected: the file's tensor is
    not used, `key` being the file's own name of it. Without a `why`, missing and unexpected are not meant.
    """

    kind: Kind
    key: str
    shape: Shape | None = None
    """In the network; None if it is not there."""
    file_shape: Shape | None = None
    why: str | None = None

    @property
    def is_problem(self) -> bool:
        return self.kind != "loaded" and self.why is None

    @property
    def text(self) -> str:
        if self.shape is not None and self.file_shape is not None and self.shape != self.file_shape:
            return f"{self.key} ({size(self.file_shape)} instead of {size(self.shape)})"
        return self.key


@dataclass(frozen=True)
class LoadReport:
    """The table of loaded, reshaped, missing and unexpected tensors of one file and one network."""

    file: str
    layout: str
    """As `layouts.LAYOUTS` calls it."""
    entries: tuple[Entry, ...]

    def of(self, kind: Kind) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind == kind)

    @property
    def filled(self) -> frozenset[str]:
        """The network's tensors that come from the file."""
        return frozenset(entry.key for entry in (*self.of("loaded"), *self.of("reshaped")))

    @property
    def problems(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.is_problem)

    def facts(self) -> Mapping[str, Json]:
        """For the attempt's record: every tensor, with its shapes."""
        return {
            "file": self.file,
            "layout": self.layout,
            "counts": {kind: len(self.of(kind)) for kind in KINDS},
            "loaded": {entry.key: list(entry.shape or ()) for entry in self.of("loaded")},
            **{kind: [_fact(entry) for entry in self.of(kind)] for kind in KINDS[1:]},
        }

    def lines(self) -> list[str]:
        """The table for the run's log; equal lines of several blocks are one."""
        found = [f"weights {self.file} ({self.layout} layout)"]
        for kind in KINDS:
            entries = self.of(kind)
            found.append(f"  {kind:10} {len(entries):4}")
            if kind != "loaded":
                rows = [(entry.key, f"{_sizes(entry)}: {entry.why or 'not declared'}") for entry in entries]
                found += [f"    {name} {text}" for name, text in grouped(rows)]
        return found


def _fact(entry: Entry) -> dict[str, Json]:
    shapes = {"shape": entry.shape, "file_shape": entry.file_shape}
    return {
        "key": entry.key,
        **{name: list(shape) for name, shape in shapes.items() if shape is not None},
        "why": entry.why,
    }


def _sizes(entry: Entry) -> str:
    shapes = [shape for shape in (entry.file_shape, entry.shape) if shape is not None]
    return " -> ".join(size(shape) for shape in dict.fromkeys(shapes))


def size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


_BLOCK = re.compile(r"((?:blocks|encoder\.layer)\.)(\d+)(?=\.)")


def grouped(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(key, text), where rows that differ in the transformer block alone are one: `blocks.{0-11}.attn.qkv.weight`."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for key, text in rows:
        match = _BLOCK.search(key)
        pattern = key if match is None else _BLOCK.sub(r"\1{}", key, count=1)
        numbers.setdefault((pattern, text), []).append("" if match is None else match[2])
    return [(pattern.replace("{}", _range(found), 1), text) for (pattern, text), found in numbers.items()]


def _range(numbers: Sequence[str]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    ordered = sorted(map(int, numbers))
    whole = ordered == list(range(ordered[0], ordered[-1] + 1))
    return "{" + (f"{ordered[0]}-{ordered[-1]}" if whole else ",".join(map(str, ordered))) + "}"


def named(kind: str, keys: Collection[str]) -> str:
    """`3 missing: a, b, c`, and of many the first few; those of several blocks under one name. "" for none."""
    if not keys:
        return ""
    names = [name for name, _ in grouped((key, "") for key in keys)]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(keys)} {kind}: {', '.join(names[:SHOWN])}{rest}"
