"""Answers to questions of one's own, as text: columns and rows that nobody knows beforehand, written as they come."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from rich.cells import cell_len

from ablate.report.markdown import escape
from ablate.report.tabular import safe
from ablate.results.asking import Column

Write = Callable[[str], object]
Writer = Callable[[Sequence[Column], Iterable[Sequence[Any]], Write], None]

_HIDDEN = re.compile("[\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
"""What JSON may hold as it is, and terminals act upon."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
            "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BIGNUM")  # fmt: skip


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[Any]], write: Write) -> None:
    """Columns side by side, numbers to the right, six digits of each; nothing is cut off."""
    if [column.name for column in columns] == ["explain_key", "explain_value"]:
        for row in rows:
            write(f"{row[1]}\n")
        return
    lines = [[column.name for column in columns], *([_shown(value) for value in row] for row in rows)]
    lines = [[_CONTROL.sub("\N{REPLACEMENT CHARACTER}", cell) for cell in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    right = [column.type.partition("(")[0] in _NUMBERS for column in columns]
    for line in lines:
        padded = (_pad(cell, width, side) for cell, width, side in zip(line, widths, right, strict=True))
        write("  ".join(padded).rstrip() + "\n")


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def write_markdown(columns: Sequence[Column], rows: Iterable[Sequence[Any]], write: Write) -> None:
    """A table as GitHub shows it; numbers as in `write_table`."""
    right = [column.type.partition("(")[0] in _NUMBERS for column in columns]
    write(_piped(escape(_one_line(column.name)) for column in columns))
    write(_piped("---:" if side else "---" for side in right))
    for row in rows:
        write(_piped(escape(_one_line(_shown(value))) for value in row))


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _one_line(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split("\n")))


def write_csv(columns: Sequence[Column], rows: Iterable[Sequence[Any]], write: Write) -> None:
    """In full precision; text that a spreadsheet would take for a formula gets a quote in front."""

    class Out:
        def write(self, text: str) -> object:
            return write(text)

    table = csv.writer(Out(), lineterminator="\r\n")
    table.writerow([safe(column.name) for column in columns])
    for row in rows:
        table.writerow([safe(value) if isinstance(value, str) else _text(value) for value in row])


def write_json(columns: Sequence[Column], rows: Iterable[Sequence[Any]], write: Write) -> None:
    """A list with an object for each row, in full precision; of two columns with one name the second is `name_1`.

    JSON columns are nested; what is no number is null.
    """
    names = _distinct([column.name for column in columns])
    nested = [column.type == "JSON" for column in columns]
    write("[")
    for count, row in enumerate(rows):
        cells = {
            name: _nested(value) if is_json else _plain(value)
            for name, value, is_json in zip(names, row, nested, strict=True)
        }
        text = json.dumps(cells, ensure_ascii=False, allow_nan=False)
        write(("," if count else "") + "\n " + _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
    write("\n]\n")


def _distinct(names: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        number, free = 0, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found[free] = None
    return list(found)


def _nested(value: Any) -> Any:
    try:
        return _plain(json.loads(value)) if isinstance(value, str) else _plain(value)
    except ValueError:
        return value


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return _plain(float(value)) if value.is_finite() else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)


def _text(value: Any) -> str:
    """In full, for a cell of a CSV file."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return str(value)
    plain = _plain(value)
    if isinstance(plain, bool | Mapping | list):
        return safe(json.dumps(plain, ensure_ascii=False))
    return str(plain) if isinstance(plain, int) else safe(str(plain))


def _shown(value: Any) -> str:
    """For people: six digits are enough; nothing for NULL."""
    if isinstance(value, float) and abs(value) < 1e6:
        return f"{value:.6g}"
    return value if isinstance(value, str) else _text(value)


WRITERS: Mapping[str, Writer] = {
    "table": write_table, "md": write_markdown, "csv": write_csv, "json": write_json,
}  # fmt: skip
