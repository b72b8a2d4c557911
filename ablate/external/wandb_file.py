"""wandb's offline files (`run-<id>.wandb`), record by record.

The file is a log as LevelDB writes it (leveldb/doc/log_format.md): blocks of 32 KiB of fragments behind a header of
CRC-32, size and kind, where wandb has a header of its own of seven bytes and sums the kind in front of the data. What is
in it are messages of wandb's protocol, whose classes the package wandb ships. Nothing is sent anywhere.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ablate.errors import DataError

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_IDENT = struct.Struct("<4sHB")
_MAGIC = (b":W&B", 0xBEE1, 0)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
MAX_RECORD = 256 * 2**20
"""Bytes of a record: its length must not decide how much memory is taken."""


@dataclass
class Session:
    """What one file holds of a run. `history` are (step, values), flat with "/" between levels."""

    path: Path
    run_id: str = ""
    name: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    host: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    started: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    exit_code: int | None = None
    """None if the records end without saying how the run ended."""
    damage: str | None = None
    """Where the file stops making sense; what is before that was read."""


def fragments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(end, record) for every whole record. Raises ValueError, with the byte, at the first that is not."""
    if file.read(_IDENT.size) != _IDENT.pack(*_MAGIC):
        raise DataError("not a file of wandb's offline mode (its first bytes are others)")
    position, parts = _IDENT.size, bytearray()
    while True:
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:
            position += len(file.read(left))
            continue
        header = file.read(_HEADER.size)
        if not header:
            if parts:
                raise ValueError(f"cut off at byte {position}")
            return
        begun = position
        position += _HEADER.size
        if len(header) < _HEADER.size:
            raise ValueError(f"cut off at byte {begun}")
        crc, size, kind = _HEADER.unpack(header)
        data = file.read(size)
        position += size
        if len(data) < size:
            raise ValueError(f"cut off at byte {begun}")
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError(f"damaged at byte {begun}")
        if (kind in (_FULL, _FIRST)) == bool(parts) or len(parts) + size > MAX_RECORD:
            raise ValueError(f"damaged at byte {begun}")
        parts += data
        if kind in (_FULL, _LAST):
            yield position, bytes(parts)
            parts.clear()


def read_session(path: Path) -> Session:
    """Reads a file as far as it is whole. Raises DataError if it is none of wandb's, or if wandb cannot be imported."""
    record_class = _record_class()
    found = Session(path)
    try:
        with path.open("rb") as file:
            for end, data in fragments(file):
                record = record_class()
                try:
                    record.ParseFromString(data)
                    _take(found, record)
                except Exception as error:  # protobuf's own, or what a damaged message holds
                    raise ValueError(f"not readable before byte {end} ({type(error).__name__})") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        found.damage = str(error)
    return found


def _record_class() -> Any:
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise DataError(f"wandb's files are read with the package wandb, which cannot be imported ({error})") from error
    return wandb_internal_pb2.Record


def _take(found: Session, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        _take_run(found, record.run)
    elif kind == "config":
        _update(found.config, record.config.update, record.config.remove)
    elif kind == "summary":
        _update(found.summary, record.summary.update, record.summary.remove)
    elif kind == "history":
        row: dict[str, Any] = {}
        _update(row, record.history.item, ())
        step = row.pop("_step", record.history.step.num)
        found.history.append((int(step), dict(flat(row))))
    elif kind == "exit":
        found.exit_code = int(record.exit.exit_code)


def _take_run(found: Session, run: Any) -> None:
    found.run_id, found.name = run.run_id, run.display_name
    found.project, found.entity, found.group, found.host = run.project, run.entity, run.run_group, run.host
    found.notes, found.tags = run.notes, tuple(run.tags)
    found.started = run.start_time.seconds + run.start_time.nanos / 1e9
    _update(found.config, run.config.update, ())


def _update(target: dict[str, Any], items: Any, removed: Any) -> None:
    """Sets and removes values at their places, `key` or `nested_key`."""
    for item in items:
        *parents, last = item.nested_key or (item.key,)
        inner = target
        for parent in parents:
            if not isinstance(inner.get(parent), dict):
                inner[parent] = {}
            inner = inner[parent]
        inner[last] = finite(json.loads(item.value_json))
    for item in removed:
        *parents, last = item.nested_key or (item.key,)
        place: Any = target
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)


def finite(value: Any) -> Any:
    """JSON without numbers that are none: NaN and infinities become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list) else value


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{'val': {'rmse': 3}} -> ('val/rmse', 3). Media and the like stay whole."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner and "_type" not in inner:
            yield from flat(inner, f"{prefix}{key}/")
        else:
            yield prefix + key, inner
