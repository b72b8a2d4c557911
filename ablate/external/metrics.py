"""A table of metrics with one row of numbers, as logs have them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ablate.task import Metric

_ARROWS = {"↑": "max", "⬆": "max", "↓": "min", "⬇": "min"}
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:[.,]\d{1,30})?(?:[eE][+-]?\d{1,4})?")
_CELL = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r":?-+:?")
_NOTHING = ("", "-", "–", "—", "n/a", "na", "nan", "none", "null")
_ALIASES = {"a1": "d1", "a2": "d2", "a3": "d3", "δ1": "d1", "δ2": "d2", "δ3": "d3", "delta1": "d1", "delta2": "d2",
            "delta3": "d3", "si": "silog", "logrmse": "rmselog"}  # fmt: skip

Lines = Sequence[tuple[int, str]]
"""Lines with their numbers."""


@dataclass(frozen=True)
class Numbers:
    """`values` by the metric's key; `texts` as they were written, also of columns that are no metric of ours."""

    values: Mapping[str, float | None] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def plain_name(header: str) -> str:
    """'**AbsRel** ↓' -> 'absrel': what headers are compared by."""
    found = re.sub(r"[^a-z0-9δ]", "", header.lower())
    return _ALIASES.get(found, found)


def read_table(lines: Lines, metrics: Sequence[Metric]) -> tuple[Numbers, list[str], list[str]]:
    """The numbers of a table, what is wrong with it, and what is worth saying; problems name their lines."""
    table = [(number, _cells(line)) for number, line in lines]
    (first, headers), *rest = table
    if not rest or not all(_RULE.fullmatch(cell) for cell in rest[0][1]):
        return Numbers(), [f"line {first}: a table needs a line such as |:---:| below its headers"], []
    rows = rest[1:]
    if len(rows) != 1:
        return Numbers(), [f"line {first}: expected one row of numbers, found {len(rows)}"], []
    number, cells = rows[0]
    for line, found in (rest[0], rows[0]):
        if len(found) != len(headers):
            return Numbers(), [f"line {line}: {len(found)} cells below {len(headers)} headers"], []
    if any("," in cell for cell in cells) and any("." in cell for cell in cells):
        return Numbers(), [f"line {number}: both decimal points and commas; which are thousands cannot be told"], []
    return _read(number, first, list(zip(headers, cells, strict=True)), metrics)


def _cells(line: str) -> list[str]:
    text = line.strip().removeprefix("|")
    if text.endswith("|") and not text.endswith("\\|"):
        text = text[:-1]
    return [cell.replace("\\|", "|").strip() for cell in _CELL.split(text)]


def _read(
    line: int, heads: int, cells: Sequence[tuple[str, str]], metrics: Sequence[Metric]
) -> tuple[Numbers, list[str], list[str]]:
    known = {name: metric for metric in metrics for name in (plain_name(metric.key), plain_name(metric.header))}
    values: dict[str, float | None] = {}
    texts: dict[str, str] = {}
    problems: list[str] = []
    remarks: list[str] = []
    for header, cell in cells:
        text = cell.strip("*_` ")
        metric = known.get(plain_name(header))
        name = metric.key if metric else header.strip()
        if name in texts:
            problems.append(f"line {heads}: the column {header!r} is there twice")
        texts[name] = text
        if metric is None:
            remarks.append(f"line {heads}: {header!r} is no metric that is known here; kept as it is written")
            continue
        if any(way != metric.better for arrow, way in _ARROWS.items() if arrow in header):
            problems.append(f"line {heads}: {header!r}, but of {metric.header} the {_better(metric)} is better")
        values[name], problem = _number(text)
        if problem:
            problems.append(f"line {line}: {header!r}: {problem}")
    return Numbers(values, texts), problems, remarks


def _better(metric: Metric) -> str:
    return "higher" if metric.better == "max" else "lower"


def _number(text: str) -> tuple[float | None, str]:
    """A number with a decimal point or comma; None where there is none. The second is what is wrong."""
    if text.lower() in _NOTHING:
        return None, ""
    if not _NUMBER.fullmatch(text):
        return None, f"expected a number, found {text[:40]!r}"
    value = float(text.replace(",", "."))
    return (value, "") if math.isfinite(value) else (None, f"{text} is too large")
