"""The journal of a run: append-only lines with a checksum, written by one process.

    <crc32 of the JSON text, 8 hex digits> {"v":1,"seq":…,"attempt":…,"type":…,"epoch":…,"step":…,"wall":…,…}

A record that is acknowledged (`durable=True`) has been fsynced, with everything before it. What a kill or
a power cut leaves behind the last acknowledged record is cut off when the journal is opened again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from ablate.errors import DiskError, JournalError
from ablate.runs import disk, files

VERSION = 1
RecordType = Literal["attempt", "epoch", "evaluation", "event"]
_TYPES = frozenset(get_args(RecordType))
_WHOLE = ("seq", "attempt", "epoch", "step")
_CLOCKS = ("wall", "mono")


@dataclass(frozen=True)
class Record:
    """One line. `wall` is Unix time, `mono` the monotonic clock of the machine that wrote it (both s)."""

    seq: int
    attempt: int
    type: RecordType
    epoch: int
    step: int
    wall: float
    mono: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A record and where it ends in the file."""

    record: Record
    end: int
    crc: int


def encode(record: Record) -> bytes:
    text = json.dumps({"v": VERSION, **vars(record)}, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(line: bytes) -> Record:
    """Raises ValueError if the checksum or the fields are not those of a record."""
    text = line[9:-1]
    if line[:9] != b"%08x " % zlib.crc32(text) or not line.endswith(b"\n"):
        raise ValueError("checksum differs")
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a record")
    if value.get("v") != VERSION:
        raise ValueError(f"version {value.get('v')}, this ablate reads {VERSION}")
    if value["type"] not in _TYPES or not isinstance(value["body"], dict):
        raise ValueError("not a record")
    if any(type(value[key]) is not int or not 0 <= value[key] < 2**63 for key in _WHOLE):
        raise ValueError("not a record")
    if any(type(value[key]) not in (int, float) for key in _CLOCKS):
        raise ValueError("not a record")
    return Record(**{key: value[key] for key in Record.__dataclass_fields__})


def read(path: Path, offset: int = 0) -> Iterator[Line]:
    """The records from byte `offset` on, up to the first line that is not whole. No journal: nothing."""
    try:
        file = files.open_plain(path)
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            try:
                record = decode(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                return
            offset += len(line)
            yield Line(record, offset, int(line[:8], 16))


class Journal:
    """The writing end. Open it only while holding the run's lease."""

    def __init__(self, path: Path, acknowledged: int = 0) -> None:
        """Cuts a torn tail. `acknowledged` is the last record that a checkpoint vouches for.

        Raises JournalError if that record is missing or damaged.
        """
        self.path = path
        self.seq = 0
        self.attempt = 0
        end = 0
        for line in read(path):
            self.seq, end = line.record.seq, line.end
            self.attempt = max(self.attempt, line.record.attempt)
        if self.seq < acknowledged:
            raise JournalError(
                f"{path}: damaged after record {self.seq} (byte {end}), but a checkpoint vouches for record "
                f"{acknowledged}; restore the file from a backup, or train anew with `--from-scratch`"
            )
        self._descriptor = disk.open_append(path)
        if os.fstat(self._descriptor).st_size > end:
            disk.truncate(self._descriptor, end)
        disk.sync(self._descriptor)
        # A process that was killed may have made the journal, or the folder of the run, and not got this far.
        disk.sync_folder(path.parent)
        disk.sync_folder(path.parent.parent)

    def append(
        self, type_: RecordType, epoch: int, step: int, body: Mapping[str, Any], *, durable: bool = True
    ) -> Record:
        """Adds a record; when `durable`, it and all before it are on the disk on return.

        Raises DiskError, after which the journal takes no more records.
        """
        record = Record(self.seq + 1, self.attempt, type_, epoch, step, time.time(), time.monotonic(), body)
        data = encode(record)
        with self._fatal():
            if disk.write(self._descriptor, data) != len(data):
                raise DiskError(f"{self.path}: no space left for the journal; make room, then resume")
        self.seq = record.seq
        if durable:
            self.sync()
        return record

    def sync(self) -> None:
        """All records are on the disk on return: call it before anything that relies on them. Raises DiskError."""
        with self._fatal():
            disk.sync_data(self._descriptor)

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """After a failed write or fsync the kernel may have dropped the pages: trying again would lie."""
        try:
            yield
        except OSError as error:
            self.close()
            raise DiskError(f"{self.path}: {error.strerror}; mend the disk, then resume") from error
        except DiskError:
            self.close()
            raise

    def close(self) -> None:
        if self._descriptor >= 0:
            disk.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
